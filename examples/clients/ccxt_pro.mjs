// ccxt hears the orders of an account whose listenKey the keeper keeps.
// Needs ccxt and @aws-sdk/client-dynamodb, and the table's name in LISTEN_KEYS_TABLE.

import { setTimeout as sleep } from "node:timers/promises";

import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import ccxt from "ccxt";

const ACCOUNT = "alice";
const LOOK_MS = 60_000; // between two looks at the table
const EVENTS = "&events=ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/listenKeyExpired";
const NEVER = 1e15; // ccxt starts and extends a listenKey of its own once this time, in ms, is past

const dynamodb = new DynamoDBClient();

async function readListenKey() {
  const { Item } = await dynamodb.send(
    new GetItemCommand({
      TableName: process.env.LISTEN_KEYS_TABLE,
      Key: { accountId: { S: ACCOUNT }, record: { S: "CURRENT" } },
      ConsistentRead: true,
    }),
  );
  return Item?.listenKey?.S;
}

function use(exchange, key) {
  // ccxt puts the listenKey at the end of its URL, so the events can follow it.
  const kept = { listenKey: key + EVENTS, lastAuthenticatedTime: NEVER };
  // USDⓈ-M futures are "linear" in ccxt 4.5.90 and "future" in 4.5.84.
  Object.assign(exchange.options, { linear: kept, future: kept });
  for (const [url, client] of Object.entries(exchange.clients)) {
    if (url.includes("listenKey=")) {
      client.onError(new ccxt.NetworkError("the listenKey has changed")); // watchOrders throws it
      client.close();
    }
  }
}

async function follow(exchange, key) {
  for (;;) {
    await sleep(LOOK_MS);
    try {
      const found = await readListenKey();
      if (found && found !== key) {
        key = found;
        use(exchange, key);
      }
    } catch (error) {
      console.error(error.name);
    }
  }
}

const exchange = new ccxt.pro.binance({
  apiKey: process.env.BINANCE_API_KEY,
  secret: process.env.BINANCE_API_SECRET,
  options: { defaultType: "swap" },
});
const key = await readListenKey();
if (!key) {
  throw new Error("there is no listenKey yet");
}
use(exchange, key);
follow(exchange, key);
for (;;) {
  try {
    // Every call after an error opens a new socket: reconcile by REST then.
    for (const order of await exchange.watchOrders()) {
      console.log(order.id, order.symbol, order.status);
    }
  } catch (error) {
    if (!(error instanceof ccxt.NetworkError)) {
      throw error;
    }
    console.error(error.name); // its message may hold the URL
    await sleep(5000);
  }
}
