// Reads by key and by query what the test `the_official_sdk_reads_what_was_written` has published:
// documents device~2F0 to device~2F119 of kinds k0 to k2, `n` counting from 0.
//
//   node read.mjs ENDPOINT DATABASE CONTAINER      (the account key in COSMOS_KEY)
//
// Exits with 0 if everything is as expected, and says what is not.

import assert from "node:assert/strict";
import { CosmosClient } from "@azure/cosmos";

const [endpoint, database, container] = process.argv.slice(2);
const client = new CosmosClient({ endpoint, key: process.env.COSMOS_KEY });
const things = client.database(database).container(container);
const count = 120;

// By key.
for (const n of [0, 7, 119]) {
  const kind = `k${n % 3}`;
  const { resource } = await things.item(`device~2F${n}`, kind).read();
  assert.ok(resource, `device~2F${n} is missing`);
  assert.equal(resource.name, `device/${n}`);
  assert.equal(resource.kind, kind);
  assert.equal(resource.n, n);
  assert.equal(resource._thalweg.epoch, 1);
  assert.equal(resource._thalweg.deleted, undefined);
}

// By query, in one partition and over all of them.
const within = await things.items
  .query(
    { query: "SELECT c.n FROM c WHERE c.n >= @least", parameters: [{ name: "@least", value: 90 }] },
    { partitionKey: "k0" },
  )
  .fetchAll();
assert.deepEqual(
  within.resources.map((document) => document.n).sort((a, b) => a - b),
  [90, 93, 96, 99, 102, 105, 108, 111, 114, 117],
);
const all = await things.items.query("SELECT * FROM c").fetchAll();
const found = all.resources.map((document) => document.n).sort((a, b) => a - b);
assert.deepEqual(found, Array.from({ length: count }, (_, n) => n));

// And it may write where we write: the service is no toy of ours.
await things.items.upsert({ id: "by hand", kind: "k0", n: -1 });
const { resource } = await things.item("by hand", "k0").read();
assert.equal(resource.n, -1);
await things.item("by hand", "k0").delete();

console.log(`${found.length} documents as expected`);
