"""The doors of an index: HTTP and MCP. Each needs its extra, and says so when it is imported without."""
