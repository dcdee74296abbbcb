"""Echoes WebSocket messages on one address: `wstest -m echoserver` would take the port on all of them."""
import sys

from autobahn.twisted.websocket import WebSocketServerFactory, WebSocketServerProtocol
from twisted.internet import reactor


class Echo(WebSocketServerProtocol):
    def onMessage(self, payload, isBinary):
        self.sendMessage(payload, isBinary)


address, port = sys.argv[1], int(sys.argv[2])
factory = WebSocketServerFactory(u"ws://%s:%d" % (address, port))
factory.protocol = Echo
# Else it drops connections at errors, and what the other side then still sees is a matter of timing.
factory.setProtocolOptions(failByDrop=False)
reactor.listenTCP(port, factory, interface=address)
reactor.run()
