"""Two hosts on one machine: network namespaces with a link between them that delays every packet (no netem needed).

Each namespace gets a TUN device; this process carries the packets from one to the other and holds each for `delay` seconds.
"""
import contextlib, fcntl, heapq, os, select, struct, subprocess, sys, threading, time

def _ip(*args): subprocess.run(['ip', *args], check=True, capture_output=True)

def _tun(name):
    fd = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(fd, 0x400454ca, struct.pack('16sH', name.encode(), 0x1001))  # TUNSETIFF: IFF_TUN | IFF_NO_PI
    os.set_blocking(fd, False)
    return fd

def _carry(fds, delay, stop):
    waiting, n, count = [], 0, 0
    poll = select.epoll()
    for fd in fds: poll.register(fd, select.EPOLLIN)
    while not stop.is_set():
        wait = min(0.1, max(0, waiting[0][0] - time.monotonic())) if waiting else 0.1
        for fd, _ in poll.poll(wait):
            with contextlib.suppress(BlockingIOError):
                while True:
                    packet = os.read(fd, 65536)
                    heapq.heappush(waiting, (time.monotonic() + delay, n := n + 1, fds[fds[0] == fd], packet))
        while waiting and waiting[0][0] <= time.monotonic():
            _, _, fd, packet = heapq.heappop(waiting)
            with contextlib.suppress(BlockingIOError): os.write(fd, packet)

@contextlib.contextmanager
def two_hosts(delay=0.005):
    "Names of two namespaces, with addresses 10.77.0.1 and 10.77.0.2 on devices mb0 and mb1."
    tag = os.getpid()
    names, fds, stop = [f'mb{tag}-{i}' for i in (0, 1)], [], threading.Event()
    try:
        for i, name in enumerate(names):
            _ip('netns', 'add', name)
            fds.append(_tun(f'mb{i}'))
            _ip('link', 'set', f'mb{i}', 'netns', name)
            _ip('-n', name, 'addr', 'add', f'10.77.0.{i + 1}/24', 'dev', f'mb{i}')
            for device in f'mb{i}', 'lo': _ip('-n', name, 'link', 'set', device, 'up')
        carrier = threading.Thread(target=_carry, args=(fds, delay, stop))
        carrier.start()
        yield names
    finally:
        stop.set()
        with contextlib.suppress(NameError): carrier.join()
        for fd in fds: os.close(fd)
        for name in names: subprocess.run(['ip', 'netns', 'del', name], capture_output=True)

if __name__ == '__main__':
    with two_hosts(float(sys.argv[1])) as (a, b):
        server = subprocess.Popen(['ip', 'netns', 'exec', b, sys.executable, '-c', '''
import socket
s=socket.create_server(('10.77.0.2',9000)); c,_=s.accept()
while d:=c.recv(65536): c.sendall(d[:1])
'''])
        time.sleep(.5)
        subprocess.run(['ip', 'netns', 'exec', a, sys.executable, '-c', '''
import socket, time
s=socket.create_connection(('10.77.0.2',9000)); s.setsockopt(6,1,1)
for i in range(5):
    t=time.time(); s.sendall(b'x'); s.recv(10); print('round trip', round((time.time()-t)*1e3,2), 'ms')
'''])
        server.kill()
