// ccxt receives the orders of an account whose listenKey the keeper keeps.
// Needs ccxt, @aws-sdk/client-dynamodb and @aws-sdk/client-eventbridge, and the table's name in LISTEN_KEYS_TABLE.

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { EventBridgeClient, PutEventsCommand } from "@aws-sdk/client-eventbridge";
import ccxt from "ccxt";

const ACCOUNT = process.env.ACCOUNT ?? "alice";
const LOOK_MS = 10_000; // between two looks at the table
const DEAD_MS = 2_000; // the same while the key is dead
const WARN_MS = 60_000; // between two warnings that the keeper has not renewed the key
const REPORT_MS = 35_000; // between two reports: the keeper ignores one within 30 s of its last attempt
const REPORTS = 2; // once a socket is open: the keeper ignores the first if it has just tried
const AWS_MS = 5_000; // for an answer of AWS, or of HEARTBEAT_URL
const BEAT_MS = 55_000; // and the next look: so often it calls HEARTBEAT_URL
const PING_MS = 5_000; // a network that is dead is noticed after 20 s; ccxt's own 180,000 would take 9 minutes
const EVENTS = "&events=ORDER_TRADE_UPDATE/ALGO_UPDATE/ACCOUNT_UPDATE/listenKeyExpired";
const NEVER = 1e15; // ccxt starts and extends a listenKey of its own once this time, in ms, is past

const dynamodb = new DynamoDBClient();
const eventbridge = new EventBridgeClient();

// What an error says, in a line. Its message may hold a URL with a key or a signature: not these.
function textOf({ name, message }) {
  return `${name}: ${message}`.replace(/\s+/g, " ").replace(/\w{40,}/g, "...").slice(0, 300);
}

function end(why) {
  console.error(why);
  process.exit(1);
}

let quiet = false;
let expiry; // of the listenKey, as last read

const isPast = () => expiry < new Date();

// Warn, once a minute at most, if the table's listenKey has expired.
function warn({ expiresAt, errorCode }) {
  if (quiet || !isPast()) {
    return;
  }
  quiet = true;
  sleep(WARN_MS).then(() => (quiet = false));
  const expired = `the listenKey expired at ${expiresAt.S.slice(0, 16).replace("T", " ")} UTC`;
  const why = errorCode?.S ? ` (${errorCode.S})` : "";
  console.error(`${ACCOUNT}: ${expired} and the keeper has not renewed it${why}: no orders arrive`);
}

async function readListenKey() {
  const { Item } = await dynamodb.send(
    new GetItemCommand({
      TableName: process.env.LISTEN_KEYS_TABLE,
      Key: { accountId: { S: ACCOUNT }, record: { S: "CURRENT" } },
      ConsistentRead: true,
    }),
    { abortSignal: AbortSignal.timeout(AWS_MS) }, // without it, it would wait forever
  );
  if (Item?.expiresAt) {
    expiry = new Date(Item.expiresAt.S);
    warn(Item);
  }
  return Item?.listenKey?.S;
}

// The table's listenKey, or LISTEN_KEY if AWS does not answer. Without either the program ends.
async function firstKey() {
  if (!process.env.LISTEN_KEYS_TABLE) {
    end("no table: set LISTEN_KEYS_TABLE");
  }
  let why = `${ACCOUNT}: the table has no listenKey: the account is new, or its name is wrong`;
  try {
    const key = await readListenKey();
    if (key) {
      return key;
    }
  } catch (error) {
    why = `the table cannot be read: ${error.message}`;
  }
  if (!process.env.LISTEN_KEY) {
    end(why);
  }
  console.error(`${ACCOUNT}: LISTEN_KEY is used (${why})`);
  return process.env.LISTEN_KEY;
}

let beating = false;
let beats = true; // the last call of HEARTBEAT_URL succeeded

// Call HEARTBEAT_URL, which is secret, if it is set: orders arrive. Nothing waits for it: it may hang.
async function beat() {
  if (!process.env.HEARTBEAT_URL || beating) {
    return;
  }
  beating = true;
  sleep(BEAT_MS).then(() => (beating = false));
  let why = "";
  try {
    const answer = await fetch(process.env.HEARTBEAT_URL, { signal: AbortSignal.timeout(AWS_MS) });
    await answer.text();
    why = answer.ok ? "" : answer.status;
  } catch (error) {
    why = error.cause?.code ?? error.name;
  }
  if (why && beats) {
    console.error(`${ACCOUNT}: the call of HEARTBEAT_URL failed (${why})`);
  }
  beats = !why;
}

// ccxt with a listenKey that it is handed, and none of its own.
class KeptBinance extends ccxt.pro.binance {
  reportsLeft = 0;
  reporting = false;
  hears = false; // orders arrive

  describe() {
    const none = { lastAuthenticatedTime: NEVER };
    return this.deepExtend(super.describe(), { options: { linear: none, future: none } });
  }

  getPrivateWsUrl(type, listenKey) {
    if (!listenKey) {
      throw new ccxt.AuthenticationError("no listenKey: call use(key) first");
    }
    return super.getPrivateWsUrl(type, listenKey);
  }

  use(key) {
    this.key = key;
    // ccxt puts the listenKey at the end of its URL, so the events can follow it.
    const kept = { listenKey: key + EVENTS, lastAuthenticatedTime: NEVER };
    // USDⓈ-M futures are "linear" in ccxt 4.5.90 and "future" in 4.5.84.
    Object.assign(this.options, { linear: kept, future: kept });
    for (const [url, client] of Object.entries(this.clients)) {
      if (url.includes("listenKey=")) {
        client.onError(new ccxt.NetworkError("the listenKey has changed")); // watchOrders throws it
        client.close();
      }
    }
  }

  onConnected(client, message) {
    super.onConnected(client, message);
    // Not one that was opening when the key changed.
    if (client.url.includes(`listenKey=${this.key}&`)) {
      this.socket = client;
      this.judge(true);
      this.doubt();
    }
  }

  onError(client, error) {
    super.onError(client, error);
    this.lost(client);
  }

  onClose(client, event) {
    super.onClose(client, event);
    this.lost(client);
  }

  lost(client) {
    if (client === this.socket) {
      this.socket = undefined;
      this.judge();
    }
  }

  // Say when orders arrive, for each socket that opens, and when they no longer do.
  judge(opened = false) {
    const hears = this.socket !== undefined && this.key !== this.dead && !isPast();
    if (hears === this.hears && !(hears && opened)) {
      return;
    }
    this.hears = hears;
    if (hears) {
      console.log(`${ACCOUNT}: listening`); // start to reconcile by REST here
    } else {
      console.log(`${ACCOUNT}: deaf`); // stop quoting here
    }
  }

  handleMessage(client, message) {
    if (message.e !== "listenKeyExpired") {
      super.handleMessage(client, message);
    } else if (message.listenKey === this.key && this.key !== this.dead) {
      this.dead = this.key; // ccxt has no use for this event
      console.error(`${ACCOUNT}: the listenKey has expired: no orders arrive`);
      this.judge();
      this.doubt();
    }
  }

  // The key is dead, or may have died while no socket was open: Binance does not say so later.
  doubt() {
    this.reportsLeft = REPORTS;
    if (!this.reporting) {
      this.report();
    }
  }

  // Tell the keeper that the key is dead, until the table has another; or twice that it may be.
  async report() {
    this.reporting = true;
    while (this.key === this.dead || this.reportsLeft > 0) {
      this.reportsLeft -= 1;
      const fingerprint = createHash("sha256").update(this.key).digest("hex").slice(0, 12);
      const Detail = JSON.stringify({ accountId: ACCOUNT, fingerprint, dead: this.key === this.dead });
      const Entries = [{ Source: "listenkey-keeper.bot", DetailType: "Listen Key Expired", Detail }];
      try {
        const abortSignal = AbortSignal.timeout(AWS_MS);
        const answer = await eventbridge.send(new PutEventsCommand({ Entries }), { abortSignal });
        if (answer.FailedEntryCount) {
          console.error(`${ACCOUNT}: the keeper cannot be told: ${answer.Entries[0].ErrorCode}`);
        }
      } catch (error) {
        console.error(`${ACCOUNT}: the keeper cannot be told: ${textOf(error)}`);
      }
      await sleep(REPORT_MS);
      if (this.key === this.dead) {
        console.error(`${ACCOUNT}: the listenKey has expired: no orders arrive`);
      }
    }
    this.reporting = false;
  }

  async follow() {
    for (;;) {
      await sleep(this.key === this.dead ? DEAD_MS : LOOK_MS);
      try {
        const found = await readListenKey();
        if (found && found !== this.key) {
          this.use(found);
        }
      } catch (error) {
        console.error(`${ACCOUNT}: the table cannot be read: ${textOf(error)}`);
      }
      this.judge();
      if (this.hears) {
        beat();
      }
    }
  }
}

const exchange = new KeptBinance({
  // Without an API key ccxt cannot ask for the positions.
  options: { defaultType: "swap", watchPositions: { fetchPositionsSnapshot: false } },
  streaming: { keepAlive: PING_MS },
});
// When a socket closes, ccxt also rejects promises that nobody awaits, which would end the program.
process.on("unhandledRejection", (error) => {
  if (!(error instanceof ccxt.NetworkError)) {
    throw error;
  }
});
exchange.use(await firstKey());
exchange.follow();
for (;;) {
  try {
    for (const order of await exchange.watchOrders()) {
      console.log(order.id, order.symbol, order.status);
    }
  } catch (error) {
    if (!(error instanceof ccxt.NetworkError)) {
      throw error;
    }
    console.error(`${ACCOUNT}: ${textOf(error)}`);
    await sleep(5000);
  }
}
