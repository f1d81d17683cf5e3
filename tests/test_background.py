"""Work that is shared by those who wait for it."""

import asyncio

from sn46.background import Shared


async def test_all_who_ask_meanwhile_get_one_result() -> None:
    done, door = 0, asyncio.Event()

    async def work() -> int:
        nonlocal done
        await door.wait()
        done += 1
        return done

    shared = Shared(work)
    waiting = [asyncio.create_task(shared.result()) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    door.set()
    assert await asyncio.gather(*waiting[1:]) == [1, 1, 1, 1]
    assert await shared.result() == 2


async def test_a_failure_is_told_to_all_and_not_kept() -> None:
    answers = iter([OSError("away"), None])

    async def work() -> str:
        error = next(answers)
        if error is not None:
            raise error
        return "there"

    shared = Shared(work)
    first = [asyncio.create_task(shared.result()) for _ in range(2)]
    found = await asyncio.gather(*first, return_exceptions=True)
    assert [str(error) for error in found] == ["away", "away"]
    assert await shared.result() == "there"
