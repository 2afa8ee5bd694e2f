"""`python -m worker.sampler`: this installation's policies over the OpenAI chat protocol, for live chat.

A request names a policy `attune-ID`; the registry knows the folder, and no path ever comes from a client. Torch is
loaded with the first request, so that a sampler nobody asks costs next to nothing.
"""

import argparse
import contextlib
import hmac
import json
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import Depends, FastAPI, Header
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy.exc import SQLAlchemyError
from starlette.middleware.trustedhost import TrustedHostMiddleware

from app.config import get_settings
from app.errors import AppError, Forbidden, NotFound, Unavailable
from app.training.models import ModelVersion
from worker.database import in_transaction

NUM_KEPT = 3
"""Policies that stay in memory; the one that was asked for longest ago makes room."""
MIN_PROMPT_TOKENS = 16


class Message(BaseModel):
    """One message of the conversation."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(max_length=200_000)


class Ask(BaseModel):
    """What this sampler reads of a request; whatever else clients of the protocol send is let pass."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    model: str = Field(pattern=r"^attune-[0-9]{1,18}$")
    messages: list[Message] = Field(min_length=1, max_length=400)
    stream: bool = False
    temperature: float = Field(1.0, ge=0, le=5)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0, le=1000)
    max_tokens: int = Field(64, ge=1, le=4096)
    seed: int | None = Field(None, ge=0, le=2**31 - 1)


class Policies:
    """Loaded policies by id, the least recently used first."""

    def __init__(self) -> None:
        self.loaded: OrderedDict[int, tuple[Any, Any]] = OrderedDict()
        self.lock = threading.Lock()

    def get(self, version_id: int) -> tuple[Any, Any]:
        """Model and tokenizer of a policy.

        Raises:
            NotFound: there is no such policy. Unavailable: its files cannot be used.
        """
        with self.lock:
            if version_id not in self.loaded:
                folder = _folder(version_id)
                self.loaded[version_id] = _load(folder)
            self.loaded.move_to_end(version_id)
            while len(self.loaded) > NUM_KEPT:
                self.loaded.popitem(last=False)
            return self.loaded[version_id]


def create_app() -> FastAPI:
    """The application. It has three routes, and asks for a key where one is set."""
    app = FastAPI(title="Attune sampler", docs_url=None, redoc_url=None, openapi_url=None)
    policies, settings = Policies(), get_settings()

    def check_key(authorization: Annotated[str, Header()] = "") -> None:
        if not hmac.compare_digest(authorization.encode(), f"Bearer {settings.sampler_key}".encode()):
            raise Forbidden("The sampler asks for its key: ATTUNE_SAMPLER_KEY must be the same on both sides.")

    guarded = [Depends(check_key)] if settings.sampler_key else []

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models", dependencies=guarded)
    def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": f"attune-{i}", "object": "model"} for i in list(policies.loaded)]}

    @app.post("/v1/chat/completions", dependencies=guarded)
    def complete(ask: Ask) -> Response:
        model, tokenizer = policies.get(int(ask.model.removeprefix("attune-")))
        pieces = reply_to(ask, model, tokenizer)
        if ask.stream:
            return StreamingResponse(_events(ask, pieces), media_type="text/event-stream")
        said = list(pieces)
        choice = {"index": 0, "message": {"role": "assistant", "content": "".join(text for text, _ in said)}}
        return JSONResponse({**_frame(ask, "chat.completion"), "choices": [{**choice, "finish_reason": said[-1][1]}]})

    @app.exception_handler(AppError)
    def refuse(_request: Any, error: AppError) -> JSONResponse:
        return JSONResponse({"error": {"message": error.message}}, status_code=error.status)

    hosts = ["127.0.0.1", "localhost", *settings.allowed_hosts]
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=hosts)  # Against pages that bend a name to this port.
    return app


def reply_to(ask: Ask, model: Any, tokenizer: Any) -> Iterator[tuple[str, str | None]]:
    """Pieces of text, and with the last (which may be empty) `stop` or `length`."""
    import torch

    from worker.rlhf.rollout import SamplingSettings, stream_tokens
    from worker.rlhf.tokens import encode_prompt

    room = getattr(model.config, "max_position_embeddings", None) or 1_000_000
    num_new = min(ask.max_tokens, max(room - MIN_PROMPT_TOKENS, 1))
    prompt = encode_prompt(
        tokenizer, [{"role": m.role, "content": m.content} for m in ask.messages], max_length=room - num_new
    )
    settings = SamplingSettings(
        temperature=max(ask.temperature, 1e-4), top_p=ask.top_p, top_k=ask.top_k, max_new_tokens=num_new
    )
    generator = torch.Generator().manual_seed(secrets.randbits(31) if ask.seed is None else ask.seed)
    ids: list[int] = []
    said, reason = "", "length"
    for token in stream_tokens(model, prompt, settings, eos=tokenizer.eos_token_id, generator=generator):
        if token == tokenizer.eos_token_id:
            reason = "stop"
            break
        ids.append(token)
        text = tokenizer.decode(ids, skip_special_tokens=True).lstrip()
        if text.startswith(said) and len(text) > len(said) and not text.endswith("\ufffd"):
            yield text[len(said) :], None
            said = text
    whole = tokenizer.decode(ids, skip_special_tokens=True).strip()
    yield (whole[len(said) :] if whole.startswith(said) else ""), reason


def _events(ask: Ask, pieces: Iterator[tuple[str, str | None]]) -> Iterator[str]:
    frame = _frame(ask, "chat.completion.chunk")
    for text, reason in pieces:
        choice = {"index": 0, "delta": {"content": text}, "finish_reason": reason}
        yield f"data: {json.dumps({**frame, 'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


def _frame(ask: Ask, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{secrets.token_hex(12)}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": ask.model}


def _folder(version_id: int) -> Any:
    from worker import registry

    try:
        version = in_transaction(lambda session: session.get(ModelVersion, version_id), patience_seconds=5)
        if version is None or version.kind != "policy":
            raise NotFound(f"There is no policy attune-{version_id}.")
        return registry.version_dir(version)
    except ValueError as error:
        raise Unavailable(str(error)) from None
    except SQLAlchemyError:
        raise Unavailable("The database does not answer; try again shortly.") from None


def _load(folder: Any) -> tuple[Any, Any]:
    import torch

    from worker.rlhf import optim
    from worker.rlhf.modeling import load_policy
    from worker.rlhf.tokens import load_tokenizer

    place = optim.device()
    if place.type == "cpu":
        with contextlib.suppress(RuntimeError):
            torch.set_num_threads(1)  # Several replies are written at once, each by a thread of its own.
    try:
        tokenizer = load_tokenizer(folder)
        return load_policy(folder, tokenizer=tokenizer).to(place), tokenizer
    except ValueError as error:
        raise Unavailable(str(error)) from None


def main() -> None:
    """Serve on the loopback interface, or on `--host`."""
    import uvicorn

    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--host", default="127.0.0.1", help="another address only behind a key, on a private network")
    parser.add_argument("--port", type=int, default=8001)
    options = parser.parse_args()
    uvicorn.run(
        create_app(), host=options.host, port=options.port, log_level="warning", access_log=False, server_header=False
    )


if __name__ == "__main__":
    main()
