"""Model cards in every language of the reports."""

from types import SimpleNamespace
from typing import Any

import pytest
from cards import card
from train.experiments import RUN

from cnnlab import files
from cnnlab.train.card import model_card

METRICS = {"validation_accuracy": 0.4567, "validation_loss": 1.5, "test_accuracy": 0.4, "test_loss": 1.625}
COSTS = {"parameters": 12345, "epochs": 2}


def described(language: str, classes: list[str] | None = None) -> str:
    facts: Any = {**card("mnist"), "source": "https://example.org", "digests": {"train": "ab" * 32, "test": "cd" * 32}}
    data: Any = SimpleNamespace(card=facts | ({"classes": classes} if classes else {}))
    return model_card(RUN, data, METRICS | COSTS, language)


@pytest.mark.parametrize("language", files.languages())
def test_a_card_holds_the_facts_in_every_language(language: str) -> None:
    text = described(language)
    assert text.startswith("# mnist: tiny\n\n")
    assert text.count("\n## ") == 4
    for fact in ("28×28", "ab" * 32, "cd" * 32, "https://example.org", "- batch_size: 16\n", "name rmsprop", "`tiny`"):
        assert fact in text
    assert not {"{", "}"} & {*text}


def test_numbers_and_sentences_are_those_of_the_language() -> None:
    assert "| validation | 45.67 % | 1.500 |\n| test | 40.00 % | 1.625 |" in described("en")
    assert "12,345" in described("en")
    assert "| проверочная | 45,67 % | 1,500 |\n| тестовая | 40,00 % | 1,625 |" in described("ru")
    assert "## Ограничения" in described("ru")


def test_many_classes_are_not_all_named() -> None:
    assert "Classes, 21: c0, c1" in (text := described("en", [f"c{index}" for index in range(21)]))
    assert "c19, …." in text
    assert "c20" not in text
