// node export.js SELECT FILE: rows of a cursor, formatted, into a file.
//
// PG… variables say where.  Values stay the text that PostgreSQL sent, which
// costs less than parsing them, and is what COPY would have written.

const fs = require("node:fs");
const { pipeline } = require("node:stream/promises");
const { stringify } = require("csv-stringify");
const { Client } = require("pg");
const QueryStream = require("pg-query-stream");

const BATCH = 1000; // rows: each batch is a round trip

async function main(select, file) {
  const client = new Client();
  await client.connect();
  const types = { getTypeParser: () => (value) => value };
  const rows = client.query(new QueryStream(select, [], { batchSize: BATCH, types }));
  await pipeline(rows, stringify({ header: true }), fs.createWriteStream(file));
  await client.end();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
