// Binance's SDK receives the orders of an account whose listenKey the keeper keeps.
// Needs @binance/derivatives-trading-usds-futures, its @binance/common, @aws-sdk/client-dynamodb and
// @aws-sdk/client-eventbridge; and the table's name in LISTEN_KEYS_TABLE.

import { createHash } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { EventBridgeClient, PutEventsCommand } from "@aws-sdk/client-eventbridge";
import { WebsocketStreamsBase } from "@binance/common";
import {
  DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL,
  DerivativesTradingUsdsFuturesWebsocketStreams,
} from "@binance/derivatives-trading-usds-futures";

const ACCOUNT = process.env.ACCOUNT ?? "alice";
const LOOK_MS = 10_000; // between two looks at the table
const DEAD_MS = 2_000; // the same while the key is dead
const WARN_MS = 60_000; // between two warnings that the keeper has not renewed the key
const REPORT_MS = 35_000; // between two reports: the keeper ignores one within 30 s of its last attempt
const REPORTS = 2; // once a socket is open: the keeper ignores the first if it has just tried
const AWS_MS = 5_000; // for an answer of AWS, or of HEARTBEAT_URL
const BEAT_MS = 55_000; // and the next look: so often it calls HEARTBEAT_URL
const PING_MS = 10_000; // between two pings: the SDK sends none. The answer has as long
const MOST_MS = 60_000; // between two tries to connect
const LINGER_MS = 2_000; // for so long a replaced socket is still heard: an order may be told twice
const REOPEN_MS = 22 * 3_600_000; // the SDK would renew a connection after 23 hours, in the same way

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

let key; // as last read from the table
let dead; // the key that Binance said has expired
let reportsLeft = 0;
let reporting = false;
let line; // the newest socket
let hears = false; // orders arrive

// Say when orders arrive, for each socket that opens, and when they no longer do.
function judge(opened = false) {
  const now = line !== undefined && !line.over && line.key === key && key !== dead && !isPast();
  if (now === hears && !(now && opened)) {
    return;
  }
  hears = now;
  if (hears) {
    console.log(`${ACCOUNT}: listening`); // start to reconcile by REST here
  } else {
    console.log(`${ACCOUNT}: deaf`); // stop quoting here
  }
}

// Beside the socket: a table that hangs holds up nothing.
async function follow() {
  for (;;) {
    await sleep(key === dead ? DEAD_MS : LOOK_MS);
    try {
      const found = (await readListenKey()) ?? key;
      if (found !== key && hears) {
        console.error(`${ACCOUNT}: the listenKey has changed`);
      }
      key = found;
    } catch (error) {
      console.error(`${ACCOUNT}: the table cannot be read: ${textOf(error)}`);
    }
    judge();
    if (hears) {
      beat();
    }
  }
}

// The key is dead, or may have died while no socket was open: Binance does not say so later.
function doubt() {
  reportsLeft = REPORTS;
  if (!reporting) {
    report();
  }
}

// Tell the keeper that the key is dead, until the table has another; or twice that it may be.
async function report() {
  reporting = true;
  while (key === dead || reportsLeft > 0) {
    reportsLeft -= 1;
    const fingerprint = createHash("sha256").update(key).digest("hex").slice(0, 12);
    const Detail = JSON.stringify({ accountId: ACCOUNT, fingerprint, dead: key === dead });
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
    if (key === dead) {
      console.error(`${ACCOUNT}: the listenKey has expired: no orders arrive`);
    }
  }
  reporting = false;
}

// The private socket alone, with one listenKey. `over`: nothing is heard on it any more.
class Line {
  constructor(listenKey) {
    this.key = listenKey;
    this.openedAt = Date.now();
    this.over = false;
    this.answered = true;
    this.streams = new WebsocketStreamsBase(
      {
        wsURL: DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL,
        reconnectDelay: 2 ** 31 - 1, // never: the SDK would put the listenKey into a URL without events
      },
      [],
      ["private"],
    );
    // Before it connects: in `client.websocketStreams.connect()` an error that nobody listens to ends the process.
    this.streams.on("error", (error) => console.error(`${ACCOUNT}: ${textOf(error)}`));
    this.streams.on("close", () => this.end());
    this.streams.on("pong", () => (this.answered = true));
  }

  // Rejects after 10 seconds.
  async open() {
    await this.streams.connect();
    const { WebsocketStreamsConnection } = DerivativesTradingUsdsFuturesWebsocketStreams;
    new WebsocketStreamsConnection(this.streams).userData(this.key).on("message", (event) => this.hear(event));
  }

  hear(event) {
    if (event.e === "ORDER_TRADE_UPDATE" || event.e === "ALGO_UPDATE") {
      console.log(String(event.o.i ?? event.o.aid), event.o.s, event.o.X);
    } else if (event.e === "listenKeyExpired" && this.key === key && key !== dead) {
      dead = key;
      console.error(`${ACCOUNT}: the listenKey has expired: no orders arrive`);
      judge();
      doubt();
    }
  }

  async ping() {
    while (!this.over && this.answered) {
      this.answered = false;
      this.streams.pingServer();
      await sleep(PING_MS);
    }
    this.end();
  }

  end() {
    if (this === line && hears) {
      console.error(`${ACCOUNT}: the socket is lost`);
    }
    this.over = true;
    judge();
  }

  close() {
    this.end();
    for (const connection of this.streams.connectionPool) {
      connection.closeInitiated = true;
      this.streams.cleanup(connection.ws); // its listeners, and the timers that would open another
      connection.ws?.on("error", () => {}).close();
    }
  }
}

key = await firstKey();
follow();
for (let failures = 0; ; ) {
  await sleep(Math.min(1000 * 2 ** failures, MOST_MS));
  const old = Date.now() - line?.openedAt > REOPEN_MS;
  if (key === dead || (line && !line.over && line.key === key && !old)) {
    continue;
  }
  const opening = new Line(key);
  try {
    await opening.open();
    opening.ping();
    const before = line;
    setTimeout(() => before?.close(), LINGER_MS);
    line = opening;
    failures = 0;
    judge(true);
    doubt();
  } catch (error) {
    console.error(`${ACCOUNT}: ${textOf(error)}`);
    opening.close();
    failures = Math.min(failures + 1, 6);
  }
}
