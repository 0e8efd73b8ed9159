-- Requests whose parts do not add up: why, and that all of their time is open.
INSERT INTO refused BY NAME
SELECT trace_id, span_id, start_ns - shift_ns AS start_ns, why FROM refusal JOIN entry USING (request_no);

INSERT INTO stay BY NAME
SELECT
    trace_id, span_id, start_ns - shift_ns AS start_ns, coalesce(service, '') AS service, container_id, host,
    end_ns - start_ns AS own_ns, end_ns - start_ns AS open_ns
FROM entry SEMI JOIN refusal USING (request_no);
