"""Schemathesis asks every route what its description allows and what it forbids, and holds the answers against it."""

import asyncio
import os
import sys
from pathlib import Path

from orderbell.store.postgres import Store
from tests.api_site import Api, fill, running_api

SEED = "1"
EXAMPLES_MAX = "6"
WITHIN_S = 900  # a busy machine takes its time; more is a hang

# A list is answered item for item: what is wrong with one of them is in the answer, not in the status.
# What fits the form may be refused for what it means, and nothing is looked for that another request made or removed.
CONFIG = """
[checks]
positive_data_acceptance.enabled = false
use_after_free.enabled = false
ensure_resource_availability.enabled = false
object_level_authorization.enabled = false

[phases.coverage]
unexpected-methods = ["PUT", "OPTIONS"]

[[operations]]
include-name = ["POST /v1/events", "POST /v1/replies"]
[operations.checks.negative_data_rejection]
enabled = false
"""


async def run_schemathesis(api: Api, folder: Path) -> tuple[int, str]:
    """Run it as a program, against the site as it is served; gives its verdict and its words."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run", f"{api.url}/schema/openapi.json", "--no-color",
        "--header", f"Authorization: Bearer {api.key}", "--seed", SEED,
        "--generation-deterministic", "--max-examples", EXAMPLES_MAX,
        "--phases", "examples,coverage,fuzzing", "--include-path-regex", "^/v1/", "--continue-on-failure",
        "--suppress-health-check", "all", "--workers", "1", "--warnings", "off", "--request-timeout", "20",
    ]  # fmt: skip
    environment = {**os.environ, "NO_PROXY": "*", "no_proxy": "*"}
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(WITHIN_S):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, said.decode(errors="replace")


async def test_answers_are_as_described(store: Store, tmp_path: Path) -> None:
    """Whatever is asked, no route may answer with a breakdown, nor with anything that the description does not say."""
    async with running_api(store) as api:
        await fill(api)
        verdict, said = await run_schemathesis(api, tmp_path)
    assert verdict == 0, said
