"""The deterministic simulator: the Router, job managers and clients of the package in a world made from one seed.

Real here: `Router.turn` with all of `broker/`, `workers.foreman` with pool and session, `client.exchange`, the stores.
Fake: time (`timeline`), the network as ZeroMQ behaves (`network`), the disk (`disk`), worker processes (`child`), and
the loops that carry what the real ones decide (`router`, `manager`, `client`). `faults` breaks things, `witness`
watches every turn of the Router, `truth` knows what ran and why, `world` puts it together and judges the end.

    python -m sim --seeds 1000        many worlds
    python -m sim --seed 123          one, with its trace
    python -m sim --seed 7 --plant no_hold

To add a command or a state: draw it in `options`, have `client` or `faults` use it, and say in `witness` what must
hold. Nothing here reads a clock, a random source or an address of an object that the seed does not decide.
"""
