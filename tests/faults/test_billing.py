"""The ledger against the sandbox's bill, in a short run of `make billing`."""

from faults.billing import compare, traffic


async def test_the_ledger_is_what_the_provider_bills():
    """Two workers, one killed. Estimates are compared by the long run: a busy machine is late to see a cancel."""
    outcomes, rows, bill, budget_usd = await traffic(600)
    verdicts = {
        what: holds for what, _, _, holds in compare(rows, bill, budget_usd) if "estimated" not in what
    }

    assert 600 == outcomes.total()
    assert len(rows) > 400
    assert [] == [what for what, holds in verdicts.items() if not holds and "budget" not in what]
