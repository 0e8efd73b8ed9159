'use strict';
/* OpenTelemetry as its documentation has it: traces only, a batch each half second, the container's id where it can be found. */
process.env.OTEL_METRICS_EXPORTER ??= 'none';
process.env.OTEL_LOGS_EXPORTER ??= 'none';
const { OTLPTraceExporter } = require('@opentelemetry/exporter-trace-otlp-proto');
const { HttpInstrumentation } = require('@opentelemetry/instrumentation-http');
const { PgInstrumentation } = require('@opentelemetry/instrumentation-pg');
const { containerDetector } = require('@opentelemetry/resource-detector-container');
const { NodeSDK, resources } = require('@opentelemetry/sdk-node');
const { BatchSpanProcessor } = require('@opentelemetry/sdk-trace-node');

const sdk = new NodeSDK({
  spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter(), { scheduledDelayMillis: 500 })],
  instrumentations: [new HttpInstrumentation(), new PgInstrumentation()],
  resourceDetectors: [resources.envDetector, resources.processDetector, resources.hostDetector, containerDetector],
});
sdk.start();
module.exports = sdk;
