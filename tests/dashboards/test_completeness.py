"""What the code can say is shown somewhere."""

from opero_dashboards import build
from opero_dashboards.vocabulary import Vocabulary


def test_every_metric_is_on_some_panel():
    text = str(build())
    vocabulary = Vocabulary.declared()
    assert [name for name in vocabulary if vocabulary.prometheus(name) not in text] == []
