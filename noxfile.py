"""The checks of this project: `nox` runs those that a change must pass, `nox --list` shows them all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from itertools import chain
from pathlib import Path

import nox
from nox.command import CommandFailed
from packaging.requirements import Requirement

nox.needs_version = ">=2026.8.17"  # older ones fail where pyenv's stand-in for a Python cannot run
nox.options.default_venv_backend = "virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False  # a Python that is not there is skipped, in CI too
nox.options.reuse_venv = "yes"
nox.options.allow_parallel = True
# One more than there are processors, as tests wait for clocks and for other processes, too.
nox.options.parallel = (os.cpu_count() or 1) + 1

# The programs that tests start would compile the package, each anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# pip would compile all that it installs, of which the checks import a part.
os.environ["PIP_COMPILE"] = "0"

ROOT = Path(__file__).parent
PYPROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
PYTHONS = ["3.11", "3.12", "3.13", "3.14", "3.15"]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# In this order, which is that of how long they take. The tests on this Python are those of `build`.
nox.options.sessions = [
    "build",
    *(f"tests-{each}" for each in PYTHONS if each != HERE),
    "minimums",
    "types",
    "docs",
    "lint",
    "coverage",
]
EXTRAS = f"[{','.join(PYPROJECT['project']['optional-dependencies'])}]"
SELF = f".{EXTRAS}"
DATA = ROOT / ".coverage.build"
# The tests in tests/typing run the type checkers, which only the session `types` installs.
NO_TYPING = "--ignore=tests/typing"
# Besides the session `build`, which runs all tests, these need no more than what may differ.
MAY_DIFFER = ("-m", "not slow and not one_python", NO_TYPING)


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(PYPROJECT, name)


def lowest() -> list[str]:
    """The lowest release that each runtime requirement, of the extras too, allows."""
    project = PYPROJECT["project"]
    pins: list[str] = []
    for text in [*project["dependencies"], *chain(*project["optional-dependencies"].values())]:
        requirement = Requirement(text)
        (bound,) = (s.version for s in requirement.specifier if s.operator == ">=")
        pins.append(f"{requirement.name}=={bound}")
    return pins


@nox.session
def lint(session: nox.Session) -> None:
    session.install(*group("lint"))
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")


@nox.session
def types(session: nox.Session) -> None:
    others = ("tests", "docs", "browser", "bench", "limiters", "mutants")
    session.install("-e", SELF, *group("types"), *chain(*map(group, others)))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "trio_conman", "--ignoreexternal")
    session.run("pytest", "tests/typing")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    session.install("-e", SELF, *group("tests"))
    session.run("pytest", *MAY_DIFFER, *session.posargs)


@nox.session(python=PYTHONS[0])
def minimums(session: nox.Session) -> None:
    """The tests with the lowest allowed release of every runtime requirement."""
    session.install("-e", SELF, *lowest(), *group("tests"))
    session.run("pytest", *MAY_DIFFER, *session.posargs)


@nox.session
def newest(session: nox.Session) -> None:
    """The tests on Pythons that this machine has not, but the system in the folder TRIO_CONMAN_NEWEST has."""
    folder = os.environ.get("TRIO_CONMAN_NEWEST")
    if folder is None:
        session.skip(
            "TRIO_CONMAN_NEWEST names no folder with a system that has newer Pythons: see CONTRIBUTING"
        )
    root = Path(folder, "root").resolve()
    pythons = [p.name for p in root.glob("usr/bin/python3.*") if p.suffix[1:].isdecimal()]
    wanted = [name for name in sorted(pythons, key=lambda n: int(n[8:])) if shutil.which(name) is None]
    if not wanted:
        session.skip(f"{root} has no Python that is not here")
    session.install("build")
    with tempfile.TemporaryDirectory(dir=root / "tmp") as directory:
        session.run("python", "-m", "build", "--sdist", "--outdir", directory)
        (sdist,) = Path(directory).glob("*.tar.gz")
        shutil.unpack_archive(sdist, directory)
        inside = Path("/", Path(directory).relative_to(root))
        source = inside / sdist.name.removesuffix(".tar.gz")
        for name in wanted:
            pip, pytest = (str(inside / name / "bin" / each) for each in ("pip", "pytest"))
            in_root(session, root, inside, name, "-m", "venv", name)
            in_root(session, root, source, pip, "install", "-q", "pip>=25.1")
            in_root(session, root, source, pip, "install", "-q", "-e", SELF, "--group", "tests")
            in_root(session, root, source, pytest, *MAY_DIFFER, *session.posargs)


def in_root(session: nox.Session, root: Path, directory: Path, *command: str) -> None:
    """Run a command in a folder of another system, whose mounts go with the command."""
    script = """
        mount -t proc proc "$0/proc" && mount --rbind /dev "$0/dev" || exit
        exec chroot "$0" sh -c 'cd "$0" && exec "$@"' "$@"
    """
    # Its pip trusts whom its system trusts.
    env = {"PIP_CERT": "/etc/ssl/certs/ca-certificates.crt"}
    session.run(
        *("unshare", "--mount", "sh", "-c", script, str(root), str(directory), *command),
        external=True,
        env=env,
    )


@nox.session
def prereleases(session: nox.Session) -> None:
    """The tests with the newest pre-releases of all that they need; what fails is told, and no failure."""
    try:
        session.install("--pre", "--upgrade", "--upgrade-strategy", "eager", "-e", SELF, *group("tests"))
        session.run("python", "-m", "pip", "list")
        session.run("pytest", *MAY_DIFFER, *session.posargs)
    except CommandFailed:
        session.warn("pre-releases may fail: look whether the next releases will, and what to do")


@nox.session(requires=["build"])
def coverage(session: nox.Session) -> None:
    """Add up what all processes of the tests have measured."""
    session.install(*group("tests"))
    session.run("coverage", "combine")
    session.run("coverage", "report")


def build_docs(session: nox.Session) -> None:
    # -a -E: a page that has not changed since the last build must warn again.
    session.run("sphinx-build", "-aEnW", "--keep-going", "-b", "html", "docs", "docs/_build/html")


@nox.session
def docs(session: nox.Session) -> None:
    session.install("-e", SELF, *group("docs"))
    build_docs(session)


@nox.session
def docs_browser(session: nox.Session) -> None:
    """Build the docs, and use them in a headless Chromium, which must be installed."""
    session.install("-e", SELF, *group("docs"), *group("tests"), *group("browser"))
    # A page that is no longer made would still be tested.
    shutil.rmtree(ROOT / "docs" / "_build" / "html", ignore_errors=True)
    build_docs(session)
    session.run("pytest", "tests/browser", *session.posargs)


def install_wheel(session: nox.Session, out: Path) -> Path:
    """Build the sdist and, from it, the wheel; install the wheel; return the unpacked sdist."""
    session.install(*group("tests"))
    session.run("python", "-m", "build", "--outdir", str(out))
    (sdist,) = out.glob("*.tar.gz")
    (wheel,) = out.glob("*.whl")
    session.install("--force-reinstall", "--no-deps", str(wheel))
    session.install(f"{wheel}{EXTRAS}")
    shutil.unpack_archive(sdist, out)
    return out / sdist.name.removesuffix(".tar.gz")


def run_on_wheel(session: nox.Session, source: Path, *pytest: str) -> None:
    """Run tests of a source tree, but with the installed package."""
    with session.chdir(source):
        # PYTHONSAFEPATH keeps the package that lies in the source tree from being imported.
        env = {"PYTHONSAFEPATH": "1", "COVERAGE_FILE": str(DATA)}
        code = "import trio_conman; print(trio_conman.__file__, end='')"
        found = str(session.run("python", "-c", code, env=env, silent=True))
        if Path(found).is_relative_to(source):
            session.error(f"the tests would import {found}, not the wheel")
        session.run(*pytest, *session.posargs, env=env)


@nox.session(reuse_venv=False)
def build(session: nox.Session) -> None:
    """Test the built wheel with what the sdist holds, and measure what of it the tests run."""
    for old in ROOT.glob(f"{DATA.name}*"):
        old.unlink()
    with tempfile.TemporaryDirectory() as directory:
        source = install_wheel(session, Path(directory).resolve())
        measured = ("coverage", "run", "-m", "pytest", "-m", "not slow and not unmeasured")
        run_on_wheel(session, source, *measured, NO_TYPING)
        # Those that play thousands of programs: measured, they take five times as long, and show no new line.
        run_on_wheel(session, source, "pytest", "-m", "not slow and unmeasured", NO_TYPING)


@nox.session
def recipes(session: nox.Session) -> None:
    """Run each recipe of the docs with the built wheel."""
    with tempfile.TemporaryDirectory() as directory:
        source = install_wheel(session, Path(directory).resolve())
        run_on_wheel(session, source, "pytest", "-m", "slow or not slow", "tests/test_recipes.py")


@nox.session
def slow(session: nox.Session) -> None:
    """The tests that take long or look at the wall clock."""
    session.install("-e", SELF, *group("tests"))
    session.run("pytest", "-m", "slow", NO_TYPING, *session.posargs)


@nox.session
def simulate(session: nox.Session) -> None:
    """Run 100,000 random programs, and see that those find the bugs that are planted in the core."""
    session.install("-e", SELF, *group("tests"))
    session.run("python", "-m", "tests.simulate", *session.posargs)
    session.run("pytest", "-m", "slow", "tests/test_planted.py")


@nox.session
def mutants(session: nox.Session) -> None:
    """Change the package bit by bit, or some of it, as in `-- _policy.budget --most 50`: what is missed?"""
    session.install("-e", SELF, *group("tests"), *group("mutants"))
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Hours of trouble in 3 minutes, or as `-- --minutes N` says: does anything grow, or get lost?"""
    session.install("-e", SELF, *group("tests"))
    session.run("python", "-m", "tests.soak", *session.posargs)


@nox.session
def kills(session: nox.Session) -> None:
    """Kill a job with a journal 200 times, or as `-- --kills N` says: is a published outcome ever lost?"""
    session.install("-e", SELF, *group("tests"))
    session.run("python", "-m", "tests.soak.kills", *session.posargs)


@nox.session
def limiters(session: nox.Session) -> None:
    """Push requests through real rate limiters, which pip and npm install in a temporary folder."""
    session.install("-e", SELF, *group("limiters"))
    session.run("python", "-m", "tests.limiters", *session.posargs)


@nox.session
def executors(session: nox.Session) -> None:
    """Try the executors of others; `-- --write` writes the table of the docs, `-- NAME` tries only that."""
    session.install("-e", SELF)
    for package in group("executors"):
        # By itself: one that cannot be had here leaves the others.
        session.install(package, success_codes=[0, 1])
    session.run("python", "-m", "tests.tried", *session.posargs)
    if not session.posargs:
        session.run("python", "-m", "tests.tried.scale")


@nox.session
def neighbours(session: nox.Session) -> None:
    """Run what people use beside the library; `-- --write` writes the tables of the docs."""
    session.install("-e", SELF)
    for package in group("neighbours"):
        # By itself: one that cannot be had here leaves the others.
        session.install(package, success_codes=[0, 1])
    session.run("python", "-m", "tests.neighbours", *session.posargs)


@nox.session
def adaptive(session: nox.Session) -> None:
    """Run adaptive limits against simulated services; `-- --write` writes the tables of the docs."""
    session.install("-e", SELF, *group("adaptive"))
    session.run("python", "-m", "tests.adaptive", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, on a quiet machine, for more than a quarter of an hour; `--quick` shows that it works."""
    session.install(SELF, *group("bench"))
    session.run("python", "-m", "tests.benchmarks", *session.posargs)


@nox.session
def scale(session: nox.Session) -> None:
    """Ten million items, a million queued and such: does any cost more than eleven times a tenth of it?"""
    session.install(SELF, *group("bench"))
    session.run("python", "-m", "tests.benchmarks.bench_scale", *session.posargs)
