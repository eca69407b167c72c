"""The released client on our Router and our job manager."""

from __future__ import annotations

import pytest

from .processes import Site, until

pytestmark = pytest.mark.timeout(60, func_only=True)


def test_its_jobs_run_once_each_on_our_manager_with_receipt_and_result(site: Site) -> None:
    site.router()
    site.manager("-J", "2")
    site.has_free_slots(2)

    said = site.released_client(
        "import peer_jobs\n"
        "print(peer_jobs.add.delay(1, 2))\n"
        "first = messages.defer_job(sender, peer_jobs.add, args=(3, 4))\n"
        "print(sender.recv_multipart()[-1] == first)\n"
        "second = messages.defer_job(sender, 'peer_jobs.add', args=(5, 6), reply_requested=True, guarantee=True,\n"
        "                            retry_count=2, timeout=30)\n"
        "print(sender.recv_multipart()[-1] == second)\n"
        "print(sender.recv_multipart()[4:] == ['{\"value\":11}', second])\n"
        "messages.defer_job(sender, peer_jobs.Greeter('hi').greet, args=('you',), class_args=('hi',),\n"
        "                   reply_requested=True)\n"
        "sender.recv_multipart()\n"
        "print(sender.recv_multipart()[4])\n"
    )
    id, *rest = said.split("\n")
    assert len(id) == 36
    assert rest[:3] == ["True"] * 3
    assert rest[3] == '{"value":"hi you"}'
    until(lambda: len(site.marks()) == 3, "the jobs of .delay() and of the bare request run")
    assert site.marks() == {"add:1+2": 1, "add:3+4": 1, "add:5+6": 1}
