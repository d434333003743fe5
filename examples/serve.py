"""An exported classifier behind HTTP.

pip install fastapi uvicorn
MODEL=runs/student/model uvicorn --factory examples.serve:app
curl -d '{"rows": ["Great battery."]}' -H 'Content-Type: application/json' http://127.0.0.1:8000/predict
"""

import os
from typing import Annotated

from fastapi import FastAPI
from pydantic import BaseModel, Field
from transformers import pipeline

Text = Annotated[str, Field(max_length=20_000)]


class Rows(BaseModel):
    """Texts, or pairs such as `["a premise", "a hypothesis"]`; at most 256 in one request."""

    rows: Annotated[list[Text | tuple[Text, Text]], Field(max_length=256)]


def app() -> FastAPI:
    """The server; loads the model that `MODEL` names, once."""
    classify = pipeline("text-classification", os.environ["MODEL"], top_k=None)
    server = FastAPI(title="Labelbridge classifier")

    @server.post("/predict")
    def predict(request: Rows) -> list[dict[str, float]]:
        """Label -> probability, for each row in the given order."""
        rows = [row if isinstance(row, str) else {"text": row[0], "text_pair": row[1]} for row in request.rows]
        found = classify(rows, truncation=True, batch_size=32) if rows else []
        return [{one["label"]: one["score"] for one in sorted(row, key=lambda one: -one["score"])} for row in found]

    return server
