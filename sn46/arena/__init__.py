"""The arena: strategies of miners, honest and not, played on the real rules in a simulated market.

``market`` is the portal, ``rounds`` an epoch with its chain and its validators, ``strategies`` what
miners do, ``heats`` one field of miners from uploads to weights, ``running`` many epochs of them,
``page`` what came out, in words.
"""
