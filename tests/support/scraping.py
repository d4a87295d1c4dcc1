"""`/metrics` of a running service, read by Prometheus's parser."""

from dataclasses import dataclass

from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from support.http_client import get_page

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


@dataclass(frozen=True, kw_only=True)
class Scraped:
    """The metrics of one scrape."""

    content_type: str
    text: str

    @property
    def families(self):
        read = read_openmetrics if self.content_type.startswith("application/openmetrics") else read_text
        return list(read(self.text))

    def samples(self, name):
        """The values of a sample by its labels' values, in the order of the labels' names."""
        return {
            tuple(value for _, value in sorted(sample.labels.items())): sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name
        }

    def value(self, name, **labels):
        """The sum of the samples of this name that have these labels."""
        return sum(
            sample.value
            for family in self.families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


async def scraped(admin, accept="text/plain"):
    """The metrics that the admin listener serves."""
    page = await get_page(admin, "/metrics", f"accept: {accept}")
    assert 200 == page.status
    return Scraped(content_type=page.headers["content-type"], text=page.text)
