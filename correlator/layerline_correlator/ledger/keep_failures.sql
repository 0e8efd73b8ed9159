-- What failed in the batch's requests.
INSERT INTO failure BY NAME SELECT * EXCLUDE (request_no) FROM request_failure;
