"""Which content a rater has asked not to be given, by category."""

import sqlalchemy as sa
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute

from app.prompts.models import Prompt, RaterCare


def is_welcome_to(rater_id: "int | InstrumentedAttribute[int]") -> "sa.ColumnElement[bool]":
    """For statements over `Prompt`: it carries no category that this rater has opted out of."""
    marked = func.jsonb_array_elements_text(Prompt.warnings).table_valued("value", name="marked")
    mine = (RaterCare.project_id == Prompt.project_id, RaterCare.rater_id == rater_id)
    unwanted = select(RaterCare.rater_id).join(marked, RaterCare.opted_out.op("?")(marked.c.value))
    return ~unwanted.where(*mine).correlate_except(RaterCare, marked).exists()
