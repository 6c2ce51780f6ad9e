"""A target of one of many kinds. Usage: program.py KIND PORT DIR [--inside]

Its main process listens on the port, notes its id in DIR/mains, and serves nothing.
"""

import ctypes
import os
import platform
import socket
import sys
import threading
import time

kind, port, place = sys.argv[1], int(sys.argv[2]), sys.argv[3]
pid_file = os.path.join(place, "own.pid")


def write(path, text, mode="w"):
    with open(path, mode) as file:
        file.write(text)


def listen():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind(("127.0.0.1", port))
    server.listen(16)
    return server


def begin(server):
    write(os.path.join(place, "mains"), f"{os.getpid()}\n", "a")
    return server


def sleep():
    while True:
        time.sleep(1000)


def leave():
    """Ends the process that was started and goes on in a child of its session."""
    if os.fork():
        os._exit(0)


def go_to_background():
    leave()
    os.setsid()
    leave()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)


def guard(text):
    """Ends, as PostgreSQL does, when somebody has touched its lock file."""
    stamp = os.stat(pid_file)
    while True:
        time.sleep(0.05)
        now = os.stat(pid_file)
        if open(pid_file).read() != text or now.st_mtime_ns != stamp.st_mtime_ns:
            write(os.path.join(place, "lock-file-touched"), "")
            os._exit(1)


if kind in ("titled", "titled_pid_file") and "--inside" not in sys.argv:
    # As with setproctitle: another name, and no environment to be seen.
    title = "shop: master [app:app]"
    os.execve(sys.executable, [title, *sys.argv, "--inside"], {})

if kind.startswith("background"):
    go_to_background()
elif kind.startswith("script_ends"):
    leave()

server = listen()
if kind in ("own_pid_file", "titled_pid_file", "background_pid_file", "script_ends_pid_file"):
    write(pid_file, f"{os.getpid()}\n")
if kind == "lock_file":
    text = f"{os.getpid()}\n{place}\n{int(time.time())}\n{port}\n/run\n*\nready   \n"
    write(pid_file, text)
    begin(server)
    guard(text)
if kind == "workers":
    for _ in range(3):
        if not os.fork():
            sleep()
if kind == "worker_of_its_own":
    if not os.fork():
        os.setsid()
        server.close()
        sleep()
if kind == "threads":
    for _ in range(20):
        threading.Thread(target=sleep, daemon=True).start()
if kind == "first_thread_ends":
    threading.Thread(target=sleep).start()
    begin(server)
    number = {"x86_64": 60, "aarch64": 93}[platform.machine()]
    ctypes.CDLL(None).syscall(number, 0)
begin(server)
sleep()
