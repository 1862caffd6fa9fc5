/*
 * The load generator: far cheaper than what it measures. Loopback only, bounded in time.
 *
 *   load <port> <ports> <connections> <seconds> <request bytes> <target> [rate]
 *
 * Keeps `connections` requests under way, spread over ports `port`…; with `rate` (requests a
 * second) it is open-loop: requests have intended start times, and latency counts from those. A
 * target with `events=` is a stream: each event's number and stamp are checked, so that lost,
 * merged or doubled events are seen, and the time from the stamp to here is the added latency.
 * `LOAD_HEADERS` in the environment is more header lines, each with its CRLF. Prints `measuring` once
 * the first sixth of the time is over, and one JSON object at the end: what was counted since then,
 * and `all_done` and `all_events` of all of it.
 */
#include "net.h"

#include <signal.h>

#define BUCKETS 4096

/* A histogram of µs: exact to 8 µs below 16 ms, then to 1/64. */
struct histogram {
  uint64_t count[BUCKETS], total;
};

struct connection {
  struct buffer in, events;
  size_t sent;
  uint64_t started_ns, first_ns, last_ns;
  long body_left, event;
  int chunked, in_head, busy, port;
};

static struct histogram latency, ttfb, added, gap;
static struct connection *connections;
static char *request;
static size_t request_bytes;
static uint64_t all_done, all_events, done, failed, events_seen, events_bad, bytes_seen, stop_ns, measure_ns;
static long events_wanted, interval_us;
static int epoll_fd, first_port, ports;

static int bucket_of(uint64_t us) {
  if (us < 16384) return (int)(us / 8);
  int shift = 0;
  uint64_t scaled = us;
  while (scaled >= 128) {
    scaled >>= 1;
    shift++;
  }
  int bucket = 2048 + (shift - 8) * 64 + (int)(scaled - 64);
  return bucket < BUCKETS ? bucket : BUCKETS - 1;
}

static double bucket_us(int bucket) {
  if (bucket < 2048) return bucket * 8 + 4;
  int shift = (bucket - 2048) / 64 + 8;
  return (double)(((uint64_t)((bucket - 2048) % 64 + 64)) << shift);
}

static void note(struct histogram *h, uint64_t ns) {
  h->count[bucket_of(ns / 1000)]++;
  h->total++;
}

static double quantile(struct histogram *h, double q) {
  uint64_t want = (uint64_t)((double)h->total * q), seen = 0;
  for (int i = 0; i < BUCKETS; i++) {
    seen += h->count[i];
    if (seen > want) return bucket_us(i);
  }
  return 0;
}

static void print(const char *name, struct histogram *h) {
  printf("\"%s\":{\"count\":%llu,\"p50_us\":%.0f,\"p90_us\":%.0f,\"p99_us\":%.0f,\"max_us\":%.0f}",
         name, (unsigned long long)h->total, quantile(h, 0.5), quantile(h, 0.9), quantile(h, 0.99),
         quantile(h, 1 - 1e-9));
}

static void watch(int fd, uint32_t events, int operation) {
  struct epoll_event event = {.events = events, .data.fd = fd};
  epoll_ctl(epoll_fd, operation, fd, &event);
}

static int open_connection(int i) {
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  struct sockaddr_in address = loopback(first_port + i % ports);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die("connect");
  no_delay(fd);
  watch(fd, EPOLLIN | EPOLLOUT | EPOLLET, EPOLL_CTL_ADD);
  struct connection *c = &connections[fd];
  c->in.from = c->in.to = c->events.from = c->events.to = 0;
  c->busy = 0;
  c->port = i;
  return fd;
}

static void push(int fd) {
  struct connection *c = &connections[fd];
  while (c->busy && c->sent < request_bytes) {
    ssize_t n = write(fd, request + c->sent, request_bytes - c->sent);
    if (n < 0) return;
    c->sent += (size_t)n;
  }
}

static void start(int fd, uint64_t intended_ns) {
  struct connection *c = &connections[fd];
  c->started_ns = intended_ns;
  c->first_ns = c->last_ns = 0;
  c->sent = 0;
  c->event = 0;
  c->in_head = 1;
  c->busy = 1;
  push(fd);
}

/* Takes whole events out of what has come, however a proxy has cut them anew. */
static void check_events(struct connection *c, const char *data, size_t length, uint64_t now) {
  buffer_add(&c->events, data, length);
  for (;;) {
    char *at = c->events.data + c->events.from;
    size_t have = c->events.to - c->events.from;
    char *end = have ? memmem(at, have, "\n\n", 2) : NULL;
    if (end == NULL) return;
    c->events.from += (size_t)(end + 2 - at);
    char *number = memmem(at, (size_t)(end - at), "\"n\":", 4);
    if (number == NULL) continue; /* [DONE] */
    uint64_t t = strtoull(number + 18, NULL, 10) - STAMP_BASE;
    if (strtol(number + 4, NULL, 10) != NUMBER_BASE + c->event++) events_bad++;
    all_events++;
    if (now > measure_ns) {
      note(&added, now - t);
      if (c->last_ns) {
        uint64_t between = now - c->last_ns, want = (uint64_t)interval_us * 1000;
        note(&gap, between > want ? between - want : want - between);
      }
      events_seen++;
    }
    c->last_ns = now;
  }
}

static void finish(int fd, uint64_t now) {
  struct connection *c = &connections[fd];
  c->busy = 0;
  if (events_wanted > 0 && c->event != events_wanted) events_bad++;
  all_done++;
  if (c->started_ns < measure_ns) return;
  note(&latency, now - c->started_ns);
  done++;
}

/* One piece of an answer's body; returns 1 when the answer is whole. */
static int take_body(struct connection *c, uint64_t now) {
  for (;;) {
    char *data = c->in.data + c->in.from;
    size_t have = c->in.to - c->in.from;
    if (!c->chunked) {
      size_t taken = have < (size_t)c->body_left ? have : (size_t)c->body_left;
      bytes_seen += taken;
      c->in.from += taken;
      c->body_left -= (long)taken;
      return c->body_left == 0;
    }
    char *line = have ? memchr(data, '\n', have) : NULL;
    if (line == NULL) return 0;
    size_t size = strtoul(data, NULL, 16), head = (size_t)(line + 1 - data);
    if (have < head + size + 2) return 0;
    check_events(c, data + head, size, now);
    bytes_seen += size;
    c->in.from += head + size + 2;
    if (size == 0) return 1;
  }
}

static int take(int fd, uint64_t now) {
  struct connection *c = &connections[fd];
  if (c->in_head) {
    char *start = c->in.data + c->in.from;
    size_t have = c->in.to - c->in.from;
    char *end = have ? memmem(start, have, "\r\n\r\n", 4) : NULL;
    if (end == NULL) return 0;
    *end = 0;
    if (strncmp(start + 8, " 200", 4) != 0) failed++;
    char *length = strcasestr(start, "\r\ncontent-length:");
    c->chunked = length == NULL;
    c->body_left = length ? atol(length + 17) : 0;
    c->in.from += (size_t)(end + 4 - start);
    c->in_head = 0;
    if (c->started_ns >= measure_ns) note(&ttfb, now - c->started_ns);
  }
  if (!take_body(c, now)) return 0;
  finish(fd, now);
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 7) {
    fprintf(stderr, "load <port> <ports> <connections> <seconds> <request bytes> <target> [rate]\n");
    return 2;
  }
  first_port = atoi(argv[1]);
  ports = atoi(argv[2]);
  int wanted = atoi(argv[3]);
  double seconds = atof(argv[4]);
  long body = atol(argv[5]);
  double rate = argc > 7 ? atof(argv[7]) : 0;
  events_wanted = number_of(argv[6], "events", 0);
  interval_us = number_of(argv[6], "interval_us", 20000);
  const char *headers = getenv("LOAD_HEADERS") ? getenv("LOAD_HEADERS") : "";
  request = malloc((size_t)body + strlen(headers) + 1024);
  request_bytes = (size_t)sprintf(request,
                                  "POST %s HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer sk-bench\r\n"
                                  "content-type: application/json\r\nx-session-id: bench\r\n"
                                  "%scontent-length: %ld\r\n\r\n",
                                  argv[6], headers, body);
  memset(request + request_bytes, 'z', (size_t)body);
  static const char front[] = "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"";
  static const char back[] = "\"}]}";
  memcpy(request + request_bytes, front, sizeof front - 1);
  memcpy(request + request_bytes + body - (sizeof back - 1), back, sizeof back - 1);
  request_bytes += (size_t)body;

  signal(SIGPIPE, SIG_IGN);
  epoll_fd = epoll_create1(0);
  connections = calloc((size_t)wanted + 4096, sizeof *connections);
  int *idle = malloc(sizeof *idle * (size_t)wanted), idle_count = 0;
  uint64_t begin = now_ns();
  measure_ns = begin + (uint64_t)(seconds * 0.2 * 1e9);
  stop_ns = begin + (uint64_t)(seconds * 1.2 * 1e9);
  /* Streams begin spread over one interval, as those of a fleet do; unary requests at once. */
  int first_fd = -1, started = 0;
  for (int i = 0; i < wanted; i++) {
    int fd = open_connection(i);
    if (first_fd < 0) first_fd = fd;
    if (rate > 0) idle[idle_count++] = fd;
  }
  if (rate > 0) started = wanted;
  uint64_t next_ns = now_ns(), step_ns = rate > 0 ? (uint64_t)(1e9 / rate) : 0, missed = 0;
  struct epoll_event events[1024];
  int measuring = 0;
  for (;;) {
    uint64_t now = now_ns();
    if (now > stop_ns) break;
    if (!measuring && now > measure_ns) {
      measuring = 1;
      printf("measuring\n");
      fflush(stdout);
    }
    while (step_ns && next_ns <= now) {
      if (idle_count > 0) start(idle[--idle_count], next_ns);
      else missed++;
      next_ns += step_ns;
    }
    while (started < wanted) {
      uint64_t at_ns = begin + (uint64_t)started * (uint64_t)interval_us * 1000 / (uint64_t)wanted;
      if (events_wanted > 0 && at_ns > now) break;
      start(first_fd + started++, now);
    }
    int wait = started < wanted ? 0 : step_ns ? (int)((next_ns - now) / 1000000) : 100;
    int n = epoll_wait(epoll_fd, events, 1024, wait > 100 ? 100 : wait);
    for (int i = 0; i < n; i++) {
      int fd = events[i].data.fd;
      struct connection *c = &connections[fd];
      if (events[i].events & EPOLLOUT) push(fd);
      if (!(events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))) continue;
      for (;;) {
        buffer_room(&c->in, 65536);
        ssize_t got = read(fd, c->in.data + c->in.to, 65536);
        if (got < 0 && errno == EAGAIN) break;
        if (got <= 0) {
          failed += (uint64_t)c->busy;
          close(fd);
          int again = open_connection(c->port);
          start(again, now_ns());
          break;
        }
        c->in.to += (size_t)got;
        if (take(fd, now_ns())) {
          if (rate > 0) idle[idle_count++] = fd;
          else start(fd, now_ns());
        }
      }
    }
  }
  double took = (double)(now_ns() - measure_ns) / 1e9;
  printf("{\"all_done\":%llu,\"all_events\":%llu,", (unsigned long long)all_done,
         (unsigned long long)all_events);
  printf("\"seconds\":%.3f,\"done\":%llu,\"failed\":%llu,\"missed\":%llu,\"events\":%llu,"
         "\"events_bad\":%llu,\"bytes\":%llu,",
         took, (unsigned long long)done, (unsigned long long)failed, (unsigned long long)missed,
         (unsigned long long)events_seen, (unsigned long long)events_bad,
         (unsigned long long)bytes_seen);
  print("latency", &latency);
  printf(",");
  print("ttfb", &ttfb);
  printf(",");
  print("added", &added);
  printf(",");
  print("gap", &gap);
  printf("}\n");
  return 0;
}
