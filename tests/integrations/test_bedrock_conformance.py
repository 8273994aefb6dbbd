"""The bedrock integration keeps the promises of every integration."""

from __future__ import annotations

from typing import Any

import aiobotocore.client
import botocore.client

from converra.integrations.bedrock import INTEGRATION
from tests.integrations import scripted
from tests.integrations.bedrock_scripts import SCRIPTS
from tests.integrations.bedrock_shapes import SHAPES
from tests.integrations.conformance import Conformance, Subject


def functions() -> list[tuple[Any, str]]:
    return [(owner, "_make_api_call") for owner in (botocore.client.BaseClient, aiobotocore.client.AioBaseClient)]


class TestBedrock(Conformance):
    """Over real HTTP, with the real clients."""

    subject = Subject(INTEGRATION, functions, SHAPES, lambda: scripted.serve(SCRIPTS))
