"""The user data stream of one account, for bots: it reads listenKeys that the keeper keeps alive.

    keys         ListenKeysTable, and the URL that a key opens
    report       tells the keeper that a key is dead
    gaps         what may have been missed, and which events were heard before: logic without sockets
    connection   one websocket
    line         one in use: heard, pinged
    follower     follows the key from socket to socket
    outbox       what waits for the bot to take it
    user_data    UserDataStream
    blocking     the same for code without asyncio
    changes      a queue that says when to look at the table
    threads      calls to AWS, out of the loop
    pacing       how often a process may open sockets
    clock        time, passed in

Nothing here sends POST, PUT or DELETE to Binance, and no key appears in a log line, a repr or an exception.
"""
