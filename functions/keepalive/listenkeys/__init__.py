"""Keep the listenKeys of Binance user data streams alive.

Every 30 minutes a Lambda reads the accounts, asks Binance to keep each listenKey alive, records
until when it lives, recreates the ones Binance has forgotten, and raises an alarm before any
account is left without a live key.

    settings       what the environment says, checked once
    errors         the exception tree
    trigger        an event: tick, sweep or manual, or why it is none of them
    accounts       who: rows of AccountsTable
    credentials    their API keys: Secrets Manager
    binance        the wire: PUT and POST of a listenKey
    transport      an HTTP session whose answers have a deadline
    pacing         the weight budget, and per host a lane: who may send now, who waits, when to stop
    workers        the threads of a run
    renewal        one account: PUT, compare, POST where Binance forgot the key
    records        memory: ListenKeysTable, current state and ledger
    announcements  EventBridge: a key changed, fails, or is well again
    selection      who is due in a run, and in which order
    shards         past one function: a run as messages, one per segment of the accounts
    keeper         the run: select, renew, record, announce
    journal        results on their way out: recorded in batches, then announced
    report         what a run did
    status         how every account stands now, for those who look
    remedies       what to do about an account in trouble
    page           the accounts as HTML
    aws            how the AWS clients are set up, and what their errors mean

`keeper` calls the others and none calls back. Clients and the clock are passed in.
"""
