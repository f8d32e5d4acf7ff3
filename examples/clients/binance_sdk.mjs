// Binance's SDK hears the orders of an account whose listenKey the keeper keeps.
// Needs @binance/derivatives-trading-usds-futures, its @binance/common, and @aws-sdk/client-dynamodb; and the
// table's name in LISTEN_KEYS_TABLE.

import { setTimeout as sleep } from "node:timers/promises";

import { DynamoDBClient, GetItemCommand } from "@aws-sdk/client-dynamodb";
import { WebsocketStreamsBase } from "@binance/common";
import {
  DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL,
  DerivativesTradingUsdsFuturesWebsocketStreams,
} from "@binance/derivatives-trading-usds-futures";

const ACCOUNT = "alice";
const LOOK_MS = 10_000; // between two looks at the table, and at the socket
const REOPEN_MS = 22 * 3_600_000; // the SDK would renew a connection after 23 hours, in the same way

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

function hear(event) {
  if (event.e === "ORDER_TRADE_UPDATE") {
    console.log(String(event.o.i), event.o.s, event.o.X);
  }
}

// Opens the private socket alone, and returns a way to leave it. After each opening, reconcile by REST.
async function listen(key, onClose) {
  const streams = new WebsocketStreamsBase(
    {
      wsURL: DERIVATIVES_TRADING_USDS_FUTURES_WS_STREAMS_PROD_URL,
      reconnectDelay: 2 ** 31 - 1, // never: the SDK would put the listenKey into a URL without events
    },
    [],
    ["private"],
  );
  // Before it connects: in `client.websocketStreams.connect()` an error that nobody listens to ends the process.
  streams.on("error", (error) => console.error(error.name));
  streams.on("close", onClose);
  await streams.connect();
  const { WebsocketStreamsConnection } = DerivativesTradingUsdsFuturesWebsocketStreams;
  new WebsocketStreamsConnection(streams).userData(key).on("message", hear);
  return () => streams.disconnect();
}

let known, leave, openedAt, closed;
for (;;) {
  try {
    const key = (await readListenKey()) ?? known;
    const old = Date.now() - openedAt > REOPEN_MS;
    if (key && (key !== known || closed || old)) {
      closed = false;
      const before = leave;
      leave = await listen(key, () => (closed = true));
      [known, openedAt] = [key, Date.now()];
      before?.();
    }
  } catch (error) {
    closed = true;
    console.error(error.name);
  }
  await sleep(LOOK_MS);
}
