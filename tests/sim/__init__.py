"""The deterministic simulator: the Router, job managers and clients of the package in a world made from one seed.

Real here: `Router.turn` with all of `broker/`, `workers.foreman` with pool and session, `client.exchange`, the store.
Fake: time (`timeline`), the network as ZeroMQ behaves (`network`), the disk (`disk`, `torn`), worker processes
(`child`), and the loops that carry what the real ones decide (`router`, `manager`, `client`, `operator`, `schedules`).

`faults` breaks things. `truth` knows what ran and why. `witness` watches every turn of the Router with what it knows
from outside (`knowledge`): how jobs moved (`moves`), what was said (`told`), what operators ordered (`orders`), whose
key it is (`keys`), memory against store (`places`) and against its bounds (`bounds`), fair shares (`shares`). `world`
puts it together and judges the end. `planted` and `mistakes` are real mistakes that must be seen.

    python -m sim --seeds 1000        many worlds
    python -m sim --seed 123          one, with its trace
    python -m sim --seed 7 --plant no_hold

To add a command or a state: draw it in `options`, have `client`, `operator` or `faults` use it, and say what must hold:
from the documents, not from the code that decides it. Nothing here reads a clock, a random source or an address of an
object that the seed does not decide.
"""
