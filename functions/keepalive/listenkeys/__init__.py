"""Keep the listenKeys of Binance user data streams alive.

keeper       a run: select, renew, record, announce. Its parts: trigger, selection, journal, report, pool
aws/         the tables, the secrets, the event bus and the queue
binance/     the HTTP requests, and what Binance's answers mean
sending/     one thread decides which account goes next, within the weight that all runs of a stack share
view/        what people see: status, remedies, the page

`keeper` calls the others, and none calls it. Clients and the clock are passed in.
"""
