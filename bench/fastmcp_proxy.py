"""fastmcp's proxy, as its documentation starts one; runs in an environment of its own (requirements/bench.txt)."""

from __future__ import annotations

import sys

from fastmcp.server import create_proxy  # pyright: ignore[reportMissingImports]

if __name__ == "__main__":
    proxy = create_proxy(f"http://127.0.0.1:{sys.argv[2]}/mcp")
    proxy.run(
        transport="http",
        host="127.0.0.1",
        port=int(sys.argv[1]),
        stateless_http=True,
        json_response=True,
        show_banner=False,
        log_level="ERROR",
    )
