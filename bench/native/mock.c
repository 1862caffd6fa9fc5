/*
 * The mock upstream: the cheapest server that is true to what is measured. Loopback only.
 *
 *   mock <first port> <ports>
 *
 * A POST to any path is answered with one JSON body of `bytes` (query, default 1024). With
 * `events=` in the query it is a stream: a chunk every `interval_us` with an event of `bytes`, each
 * stamped with its number and the monotonic time it was sent at, then `data: [DONE]`. Request
 * bodies are counted, not read. One thread, epoll, a heap of due times.
 */
#include "net.h"

#include <signal.h>

struct stream {
  uint64_t due_ns;
  int fd;
};

struct connection {
  struct buffer in, out;
  size_t body_left;
  long events_left, event, bytes, interval_us;
  int open, streaming;
};

static struct connection *connections;
static int connections_size;
static struct stream *heap;
static int heap_size, heap_capacity;
static int epoll_fd;
static uint64_t streams_sent, chunks_sent, unary_sent;

static void heap_push(uint64_t due_ns, int fd) {
  if (heap_size == heap_capacity) {
    heap_capacity = heap_capacity ? heap_capacity * 2 : 1024;
    heap = realloc(heap, sizeof *heap * (size_t)heap_capacity);
  }
  int i = heap_size++;
  while (i > 0 && heap[(i - 1) / 2].due_ns > due_ns) {
    heap[i] = heap[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  heap[i] = (struct stream){due_ns, fd};
}

static struct stream heap_pop(void) {
  struct stream top = heap[0], last = heap[--heap_size];
  int i = 0;
  for (;;) {
    int child = i * 2 + 1;
    if (child >= heap_size) break;
    if (child + 1 < heap_size && heap[child + 1].due_ns < heap[child].due_ns) child++;
    if (heap[child].due_ns >= last.due_ns) break;
    heap[i] = heap[child];
    i = child;
  }
  heap[i] = last;
  return top;
}

static struct connection *connection_of(int fd) {
  if (fd >= connections_size) {
    int size = (fd + 1) * 2;
    connections = realloc(connections, sizeof *connections * (size_t)size);
    memset(connections + connections_size, 0,
           sizeof *connections * (size_t)(size - connections_size));
    connections_size = size;
  }
  return &connections[fd];
}

static void drop(int fd) {
  struct connection *c = connection_of(fd);
  c->open = 0;
  c->streaming = 0;
  close(fd);
}

static void flush(int fd) {
  struct connection *c = connection_of(fd);
  while (c->out.from < c->out.to) {
    ssize_t n = write(fd, c->out.data + c->out.from, c->out.to - c->out.from);
    if (n < 0) {
      if (errno == EAGAIN) return;
      drop(fd);
      return;
    }
    c->out.from += (size_t)n;
  }
}

/* One event of exactly `bytes` bytes, as one HTTP chunk. */
static void add_event(struct connection *c) {
  char event[65536], head[32];
  long bytes = c->bytes < 160 ? 160 : c->bytes > 60000 ? 60000 : c->bytes;
  int n = snprintf(event, sizeof event,
                   "data: {\"id\":\"bench\",\"object\":\"chat.completion.chunk\",\"n\":%09ld,"
                   "\"t\":%020llu,\"choices\":[{\"index\":0,\"delta\":{\"content\":\"",
                   NUMBER_BASE + c->event++, (unsigned long long)(now_ns() + STAMP_BASE));
  memset(event + n, 'x', (size_t)(bytes - n - 8));
  memcpy(event + bytes - 8, " \"}}]}\n\n", 8);
  int h = snprintf(head, sizeof head, "%lx\r\n", bytes);
  buffer_add(&c->out, head, (size_t)h);
  buffer_add(&c->out, event, (size_t)bytes);
  buffer_add(&c->out, "\r\n", 2);
  chunks_sent++;
}

static void answer(int fd, char *target) {
  struct connection *c = connection_of(fd);
  c->bytes = number_of(target, "bytes", 1024);
  c->events_left = number_of(target, "events", 0);
  c->interval_us = number_of(target, "interval_us", 20000);
  if (c->events_left > 0) {
    static const char head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                               "transfer-encoding: chunked\r\n\r\n";
    buffer_add(&c->out, head, sizeof head - 1);
    c->event = 0;
    c->streaming = 1;
    streams_sent++;
    add_event(c);
    c->events_left--;
    heap_push(now_ns() + (uint64_t)c->interval_us * 1000, fd);
    flush(fd);
    return;
  }
  static char *body;
  static long body_bytes;
  if (body_bytes != c->bytes) {
    body = realloc(body, (size_t)c->bytes + 1);
    memset(body, 'y', (size_t)c->bytes);
    static const char front[] = "{\"id\":\"bench\",\"object\":\"chat.completion\",\"choices\":[{"
                                "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
    static const char back[] = "\"},\"finish_reason\":\"stop\"}]}";
    memcpy(body, front, sizeof front - 1);
    memcpy(body + c->bytes - (sizeof back - 1), back, sizeof back - 1);
    body_bytes = c->bytes;
  }
  char head[160];
  int h = snprintf(head, sizeof head,
                   "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %ld\r\n\r\n",
                   c->bytes);
  buffer_add(&c->out, head, (size_t)h);
  buffer_add(&c->out, body, (size_t)c->bytes);
  unary_sent++;
  flush(fd);
}

/* Takes whole requests out of what has come; a body is only counted. */
static void parse(int fd) {
  struct connection *c = connection_of(fd);
  static char target[4096];
  for (;;) {
    size_t have = c->in.to - c->in.from;
    if (c->body_left > 0) {
      size_t taken = have < c->body_left ? have : c->body_left;
      c->in.from += taken;
      c->body_left -= taken;
      if (c->body_left > 0) return;
      answer(fd, target);
      if (!c->open) return;
      continue;
    }
    char *start = c->in.data + c->in.from;
    char *end = have ? memmem(start, have, "\r\n\r\n", 4) : NULL;
    if (end == NULL) return;
    *end = 0;
    char *space = strchr(start, ' ');
    char *stop = space ? strchr(space + 1, ' ') : NULL;
    if (stop == NULL) {
      drop(fd);
      return;
    }
    size_t length = (size_t)(stop - space - 1);
    if (length >= sizeof target) length = sizeof target - 1;
    memcpy(target, space + 1, length);
    target[length] = 0;
    char *field = strcasestr(start, "\r\ncontent-length:");
    c->body_left = field ? (size_t)atol(field + 17) : 0;
    c->in.from += (size_t)(end + 4 - start);
    if (c->body_left == 0) {
      answer(fd, target);
      if (!c->open) return;
    }
  }
}

static void readable(int fd) {
  struct connection *c = connection_of(fd);
  for (;;) {
    buffer_room(&c->in, 65536);
    ssize_t n = read(fd, c->in.data + c->in.to, 65536);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
      drop(fd);
      return;
    }
    if (n < 0) return;
    c->in.to += (size_t)n;
    parse(fd);
    if (!c->open || n < 65536) return;
  }
}

static int run_due(void) {
  uint64_t now = now_ns();
  while (heap_size > 0 && heap[0].due_ns <= now) {
    struct stream s = heap_pop();
    struct connection *c = connection_of(s.fd);
    if (!c->open || !c->streaming) continue;
    if (c->events_left == 0) {
      static const char end[] = "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n";
      buffer_add(&c->out, end, sizeof end - 1);
      c->streaming = 0;
    } else {
      add_event(c);
      c->events_left--;
      heap_push(s.due_ns + (uint64_t)c->interval_us * 1000, s.fd);
    }
    flush(s.fd);
  }
  if (heap_size == 0) return 1000;
  uint64_t wait = heap[0].due_ns > now ? (heap[0].due_ns - now) / 1000000 : 0;
  return (int)wait;
}

int main(int argc, char **argv) {
  int first = argc > 1 ? atoi(argv[1]) : 9700, ports = argc > 2 ? atoi(argv[2]) : 1;
  signal(SIGPIPE, SIG_IGN);
  epoll_fd = epoll_create1(0);
  int listeners[256];
  for (int i = 0; i < ports && i < 256; i++) {
    int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = loopback(first + i);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0) die("bind");
    if (listen(fd, 8192) < 0) die("listen");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
    listeners[i] = fd;
  }
  printf("ready\n");
  fflush(stdout);
  struct epoll_event events[1024];
  for (;;) {
    int n = epoll_wait(epoll_fd, events, 1024, run_due());
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd, is_listener = 0;
      for (int k = 0; k < ports; k++) is_listener |= listeners[k] == fd;
      if (is_listener) {
        int accepted;
        while ((accepted = accept(fd, NULL, NULL)) >= 0) {
          no_delay(accepted);
          struct connection *c = connection_of(accepted);
          c->in.from = c->in.to = c->out.from = c->out.to = 0;
          c->body_left = 0;
          c->open = 1;
          c->streaming = 0;
          struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.fd = accepted};
          epoll_ctl(epoll_fd, EPOLL_CTL_ADD, accepted, &event);
        }
        continue;
      }
      if (connection_of(fd)->open && (events[i].events & EPOLLOUT)) flush(fd);
      if (connection_of(fd)->open && (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) {
        readable(fd);
      }
    }
  }
}
