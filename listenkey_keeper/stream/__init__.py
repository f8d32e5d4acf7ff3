"""The user data stream of one account, for bots: it reads listenKeys that the keeper keeps alive.

    keys         ListenKeysTable, and the URL that a key opens
    gaps         what may have been missed, and which events were heard before: logic without sockets
    connection   one websocket
    user_data    UserDataStream: follows the key from socket to socket
    blocking     the same for code without asyncio
    changes      a queue that says when to look at the table
    clock        time, passed in

Nothing here sends POST, PUT or DELETE to Binance, and no key appears in a log line, a repr or an exception.
"""
