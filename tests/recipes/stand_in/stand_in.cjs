// Puts the stand-in in Binance's place for a recipe in JavaScript: no client is told another URL.
//
// Node loads this before the recipe: binance.com then leads to the stand-in (NODE_EXTRA_CA_CERTS has its
// certificate), every other name leads nowhere, and what the recipe waits for takes a hundredth of the time,
// 0.2 s at the least, because the machine may be busy.

const { syncBuiltinESMExports } = require("node:module");
const tls = require("node:tls");
const timers = require("node:timers/promises");

const SPEED = 100;
const { connect } = tls;
const { setTimeout: wait } = timers;

tls.connect = (options, ...rest) => {
  const name = String(options.servername || options.host);
  if (!name.endsWith(".binance.com")) {
    throw new Error(`${name} is not in this world`);
  }
  const port = /^[fd]stream\./.test(name) ? process.env.STAND_IN_STREAMS : process.env.STAND_IN_REST;
  return connect({ ...options, servername: name, host: "127.0.0.1", port: Number(port) }, ...rest);
};
// Only recipes wait this way; the clients' own timers keep their pace.
timers.setTimeout = (milliseconds, ...rest) => wait(Math.max(milliseconds / SPEED, 200), ...rest);
syncBuiltinESMExports();
