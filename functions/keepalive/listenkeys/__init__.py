"""Keep the listenKeys of Binance user data streams alive.

keeper       a run: select who is due, renew, record, announce; trigger, selection, journal, report: its parts
aws/         the tables, the secrets, the event bus and the queue
binance/     the wire, and what Binance's answers mean
sending/     one thread decides who goes next, within the weight that all runs of a stack share
view/        for people who look: status, remedies, the page

`keeper` calls the others and none calls back. Clients and the clock are passed in.
"""
