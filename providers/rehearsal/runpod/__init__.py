"""A RunPod that listens on loopback: REST v2 and GraphQL over one state, with its own bill and its known quirks.

market, account, orders, prices, pods and life are the rules and know no wire; everything else is the wire.
"""
