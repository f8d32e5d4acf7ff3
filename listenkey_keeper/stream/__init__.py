"""The user data stream of an account, for bots. It uses the listenKeys that the keeper keeps alive.

    keys         reads ListenKeysTable and builds the websocket URL of a key
    report       tells the keeper that a key is dead
    gaps         tracks which events may have been missed and drops duplicates: logic without sockets
    connection   one websocket
    line         a connection together with its key: parses its messages and pings it
    follower     keeps a socket open on the current key and replaces it when the key changes
    outbox       the queue of items that the bot has not read yet
    user_data    UserDataStream
    blocking     SyncUserDataStream, for code without asyncio
    changes      ListenKeyChanges: reads a queue that says when to read the table
    threads      runs calls to AWS outside the event loop
    pacing       limits how often a process opens sockets
    clock        the injected clock

Nothing here sends POST, PUT or DELETE to Binance, and no key appears in a log line, a repr or an exception.
"""
