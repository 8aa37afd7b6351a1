"""Commands that bring a registered model into service, and back out of it."""

from astrotriton.commands.models.compare import compare
from astrotriton.commands.models.listen import listen
from astrotriton.commands.models.publish import export, verify
from astrotriton.commands.models.register import card, register
from astrotriton.commands.models.release import models, promote, rollback
from astrotriton.commands.models.settings import PromotionSettings

__all__ = [
    "PromotionSettings",
    "card",
    "compare",
    "export",
    "listen",
    "models",
    "promote",
    "register",
    "rollback",
    "verify",
]
