"""FastAPI: both models in each of Gunicorn's workers, run on the event loop, as they take less than a hop to a thread is worth."""
import fastapi
import pydantic

from models import Angle, Digits

app = fastapi.FastAPI()
digits, angle = Digits(), Angle()


class Image(pydantic.BaseModel):
    x: list[float] = pydantic.Field(min_length=64, max_length=64)


@app.post("/digits")
async def answer_digits(image: Image) -> dict:
    return digits.answer(image.x)


@app.post("/angle")
async def answer_angle(request: fastapi.Request) -> fastapi.Response:
    return fastapi.Response(angle.answer(await request.body()), media_type="application/octet-stream")
