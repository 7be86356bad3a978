// fast-jwt's verifier with its cache, spoken to as the other peers are. There is no app around it: `bare` is a function
// that does nothing, so only the time above it tells anything.
import { createInterface } from "node:readline";
import { randomBytes } from "node:crypto";
import { createSigner, createVerifier } from "fast-jwt";

const seconds = Number(process.argv.at(-1));
const key = randomBytes(48).toString("base64url");
const claims = { sub: "user-1", jti: randomBytes(16).toString("base64url"), scope: "read write" };
const sign = (secret) => createSigner({ key: secret, algorithm: "HS256", expiresIn: 3600_000 })(claims);
const verify = createVerifier({ key, algorithms: ["HS256"], cache: 1000 });
const good = sign(key);

if (verify(good).sub !== "user-1") throw new Error("a good token is refused");
for (const bad of [sign("s".repeat(48)), "x".repeat(300)]) {
  let refused = false;
  try { verify(bad); } catch { refused = true; }
  if (!refused) throw new Error("a bad token is let in");
}

const bare = (token) => token.length;
function timed(call, count) {
  const began = process.hrtime.bigint();
  let last;
  for (let i = 0; i < count; i++) last = call(good);
  return Number(process.hrtime.bigint() - began) / 1000 / count;
}
const countFor = (call) => Math.max(1, Math.floor(seconds / 9 * 1e6 / timed(call, 20000)));
const counts = [Math.min(countFor(bare), 1e6), countFor(verify)];
console.log(JSON.stringify({ ready: true }));
const median = (call, count) => [1, 2, 3, 4, 5, 6, 7, 8, 9].map(() => timed(call, count)).sort((a, b) => a - b)[4];
for await (const _line of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify({ bare: median(bare, counts[0]), guarded: median(verify, counts[1]) }));
}
