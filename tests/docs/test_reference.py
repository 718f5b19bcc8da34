"""The documentation says what the code does: generated pages, links, examples."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from docs.blocks import blocks
from interlock.core.files.located import parse
from interlock.core.files.reader import read
from interlock.core.policy.cedar_text import parse_statements
from interlock.core.policy.document import AgentFile, CatalogueFile
from interlock.settings.load import load_settings
from support.plane import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "src").rglob("*.md")])
_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")


def test_generated_pages_are_up_to_date() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "generate_reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    for target in _LINK.findall(text):
        if not target.startswith("http"):
            assert (page.parent / target).resolve().exists(), f"{page}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_in_the_text_are_read_by_the_product(page: Path, tmp_path: Path) -> None:
    for block in blocks(page):
        where = f"{page.relative_to(ROOT)}:{block.line}"
        if block.language == "cedar":
            statements, refusals = parse_statements(block.text)
            assert statements, where
            assert not refusals, where
        if block.language != "yaml":
            continue
        keys = set(yaml.safe_load(block.text))
        if "agent" in keys or "upstream" in keys:
            node, findings = parse(where, block.text.encode())
            assert read(where, node, AgentFile if "agent" in keys else CatalogueFile, findings), findings
        else:
            settings = tmp_path / "interlock.yaml"
            settings.write_text(block.text)
            load_settings(settings)


def test_the_agent_file_of_the_example_is_the_one_that_users_are_shown() -> None:
    text = (ROOT / "examples" / "customer-operations" / "policies" / "agents" / "support-agent.yaml").read_text()
    assert yaml.safe_load(text)["agent"] == {"id": "support-agent-v2", "identity": "support-agent@myco.iam"}
    assert yaml.safe_load(text)["execution"]["max_steps"] == 25
