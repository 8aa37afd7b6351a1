"""Commands that bring a registered model into service, and back out of it."""

from astrotriton.commands.models.publish import export, verify
from astrotriton.commands.models.register import card, register
from astrotriton.commands.models.release import models, promote, rollback
from astrotriton.commands.models.settings import PromotionSettings

__all__ = [
    "PromotionSettings",
    "card",
    "export",
    "models",
    "promote",
    "register",
    "rollback",
    "verify",
]
