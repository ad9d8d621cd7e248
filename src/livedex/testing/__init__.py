"""Shipped for tests: conformance kits of the ports, and fakes that pass them."""
