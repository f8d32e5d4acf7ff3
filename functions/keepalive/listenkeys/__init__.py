"""Keep the listenKeys of Binance user data streams alive.

Every 30 minutes a Lambda reads the accounts, asks Binance to keep each listenKey alive, records
when it expires, recreates the ones Binance has forgotten, and raises an alarm before any
account is left without a live key.

The run:
    keeper         select, renew, record, announce
    trigger        an event: tick, sweep or manual, or why it is none of them
    selection      who is due in a run, in which order, and why
    journal        results on their way out: recorded in batches, then announced
    pool           a run's threads: they send and talk to AWS, and decide nothing
    report         what a run did
    model          Account, Current, Result, Outcome
    settings       what the environment says, checked once
    products       Binance's products, their endpoints and weight groups
    errors, clock  the exceptions and the error codes; time, passed in

aws/
    accounts       who: rows of AccountsTable
    credentials    their API keys: Secrets Manager
    records        ListenKeysTable, the current state; LedgerTable, the attempts
    items          how those look in DynamoDB
    counter        the weight that all runs have taken, and whom they claim: items of LedgerTable
    announcements  EventBridge: a key changed, is failing, or has recovered
    shards         beyond one function: a run as messages, one per segment of the accounts
    calls          how the AWS clients are set up, and their errors

binance/
    client         the wire: PUT and POST of a listenKey
    answers        what Binance's answers mean
    transport      an HTTP transport whose answers have a deadline

sending/, where one thread decides:
    send           who goes next, who waits, who is left
    host           a host's renewals, from the backlog to the answer
    gate           when to try again, when to hold back, when to stop: pure logic
    admission      weight and a claim for the next accounts, before they are sent
    weight         the weight budget that all runs of a stack share, as one of them sees it
    renewal        one account: PUT, compare, POST where Binance forgot the key
    probe          does Binance serve this function, and which IP address does it see?

view/, for people who look:
    status         how every account stands now
    remedies       what to do about an account in trouble
    page           the accounts as HTML

`keeper` calls the others and none calls back. Clients and the clock are passed in.
"""
