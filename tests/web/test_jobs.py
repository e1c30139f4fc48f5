"""The queue alone: order, room, time, failures, and what is left on the disk."""

import threading

import pytest

pytest.importorskip('fastapi', reason='the extra serve is not installed')

from dasr_arch._errors import InputError
from dasr_arch.web.jobs import JobQueue, Outcome
from dasr_arch.web.problems import ProblemError
from dasr_arch.web.settings import Limits

WAIT = 60


class Clock:
    """Time that a test moves."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def queue(clock):
    queue = JobQueue(Limits(queue=2, keep_minutes=1, kept_megabytes=0.001), clock)
    yield queue
    queue.close()
    assert not queue._root.exists()


class Held:
    """A task that begins and then waits to be let go."""

    def __init__(self):
        self.begun = threading.Event()
        self.released = threading.Event()

    def __call__(self, job):
        self.begun.set()
        assert self.released.wait(WAIT)
        job.advance(1)
        return Outcome('held', {})


def quick(job):
    return Outcome('quick', {'file': job.store('file', b'x' * 400, 'image/png', 'a.png')})


def test_jobs_run_in_order(queue):
    seen = []

    def note(name):
        return lambda job: seen.append(name) or Outcome(name, {})

    held = Held()
    queue.submit('upscale', 'a', held)
    jobs = [queue.submit('upscale', name, note(name)) for name in ('b', 'c')]
    assert held.begun.wait(WAIT)
    assert [queue.ahead(job) for job in jobs] == [1, 2]
    held.released.set()
    assert all(job.wait(WAIT) for job in jobs)
    assert seen == ['b', 'c']
    assert [job.outcome.facts for job in jobs] == ['b', 'c']


def test_full_queue_refuses_until_there_is_room(queue):
    held = Held()
    first = queue.submit('upscale', 'a', held)
    assert held.begun.wait(WAIT)
    waiting = [queue.submit('upscale', name, quick) for name in 'bc']
    with pytest.raises(ProblemError) as caught:
        queue.submit('upscale', 'd', quick)
    assert (caught.value.status, caught.value.retry_after) == (503, 10)
    queue.remove(waiting[0])
    assert waiting[0].error.status == 410
    queue.check_room()
    held.released.set()
    assert first.wait(WAIT)


def test_time_to_come_back_is_that_of_the_running_job(queue, clock):
    held = Held()
    job = queue.submit('upscale', 'a', held)
    assert held.begun.wait(WAIT)
    assert job.seconds_left is None
    job.expect(100)
    clock.now = 20
    job.advance(40)
    assert (job.progress, job.seconds_left) == (0.4, 30)
    for name in 'bc':
        queue.submit('upscale', name, quick)
    with pytest.raises(ProblemError) as caught:
        queue.check_room()
    assert caught.value.retry_after == 31
    job.advance(1000)
    assert job.progress == 0.99
    held.released.set()
    assert job.wait(WAIT)
    assert (job.progress, job.seconds_left) == (1, None)


def test_results_expire(queue, clock):
    job = queue.submit('upscale', 'a', quick)
    assert job.wait(WAIT)
    assert queue.expires_in(job) == 60
    clock.now = 59
    assert queue.get(job.id) is job
    clock.now = 60
    with pytest.raises(ProblemError, match='has expired'):
        queue.get(job.id)
    assert not job.folder.exists()


def test_oldest_results_make_room_for_new_ones(queue, clock):
    jobs = []
    for second in range(4):
        clock.now = second
        jobs.append(queue.submit('upscale', 'a', quick))
        assert jobs[-1].wait(WAIT)
    queue.sweep()
    assert [job.folder.exists() for job in jobs] == [False, False, True, True]  # 400 bytes each, 1000 are kept


@pytest.mark.parametrize(
    ('error', 'status', 'message'),
    [
        (InputError('wrong image'), 422, 'wrong image'),
        (ProblemError(413, 'too large'), 413, 'too large'),
        (OSError(28, 'No space left on device'), 507, 'the server cannot write its files (No space left on device)'),
        (KeyError('secret'), 500, 'the server made a mistake; its log says more'),
    ],
)
def test_failures_end_the_job_but_not_the_thread(queue, error, status, message):
    def fail(_):
        raise error

    job = queue.submit('upscale', 'a', fail)
    assert job.wait(WAIT)
    assert (job.state, job.error.status, job.error.detail) == ('failed', status, message)
    after = queue.submit('upscale', 'b', quick)
    assert after.wait(WAIT)
    assert after.state == 'done'


def test_cancelled_job_stops_at_its_next_step_and_leaves_no_files(queue):
    held = Held()
    job = queue.submit('upscale', 'a', held)
    assert held.begun.wait(WAIT)
    job.store('part', b'x', 'image/png', 'a.png')
    queue.remove(job)
    held.released.set()
    assert job.wait(WAIT)
    assert (job.state, job.outcome, job.error.status) == ('failed', None, 410)
    queue.close()
    assert not job.folder.exists()


def test_closing_ends_everything(queue):
    held = Held()
    jobs = [queue.submit('upscale', 'a', held)]
    assert held.begun.wait(WAIT)
    jobs.append(queue.submit('upscale', 'b', quick))
    called = []
    for job in jobs:
        job.ended.add_done_callback(lambda _: called.append(1))
    queue.cancel_all()
    held.released.set()
    queue.close()
    assert [job.error.status for job in jobs] == [503, 503]
    assert called == [1, 1]
    with pytest.raises(ProblemError, match='stopping'):
        queue.submit('upscale', 'c', quick)


def test_several_jobs_run_at_once_where_it_is_allowed():
    queue = JobQueue(Limits(jobs=2, queue=0))
    held = [Held(), Held()]
    for one in held:
        queue.submit('upscale', 'a', one)
    assert all(one.begun.wait(WAIT) for one in held)
    with pytest.raises(ProblemError):
        queue.submit('upscale', 'a', quick)
    for one in held:
        one.released.set()
    queue.close()


@pytest.mark.parametrize(
    ('field', 'value'), [('megapixels', 0), ('jobs', -1), ('keep_minutes', float('nan')), ('queue', -1)]
)
def test_limits_that_make_no_sense_are_refused(field, value):
    with pytest.raises(InputError, match=field.replace('_', ' ')):
        Limits(**{field: value})


def test_failed_job_keeps_no_files(queue):
    """They would keep a full disk full."""

    def fill(job):
        job.store('input', b'x', 'image/png', 'a.png')
        raise OSError(28, 'No space left on device')

    job = queue.submit('upscale', 'a', fill)
    assert job.wait(WAIT)
    assert (job.state, job.error.status, job.folder.exists()) == ('failed', 507, False)


def test_folder_that_was_tidied_away_is_made_again(queue):
    before = queue._root
    before.rmdir()
    job = queue.submit('upscale', 'a', quick)
    assert job.wait(WAIT)
    assert job.state == 'done'
    assert queue._root != before
