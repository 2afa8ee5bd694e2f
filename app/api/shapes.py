"""What JSON bodies have in common: unknown fields are refused, and types are not guessed."""

from pydantic import BaseModel, ConfigDict


class Body(BaseModel):
    """A request body: strict types, no unknown fields, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, str_max_length=250_000)


class Answer(BaseModel):
    """A response body: only what is named here leaves the server."""

    model_config = ConfigDict(from_attributes=True)
