"""A deep Q-network that places breaks: network, memory, learning, demonstrations."""
