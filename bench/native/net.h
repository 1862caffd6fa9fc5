/* What the mock upstream and the load generator share: sockets, time, growing buffers. */
#ifndef ROLLTAPE_BENCH_NET_H
#define ROLLTAPE_BENCH_NET_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* Added to an event's number and stamp, so that both have one length and are JSON. */
#define NUMBER_BASE 100000000L
#define STAMP_BASE 10000000000000000000ull

/* Bytes that wait to be parsed or written. */
struct buffer {
  char *data;
  size_t from, to, capacity;
};

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
  perror(what);
  exit(1);
}

static inline void buffer_room(struct buffer *b, size_t bytes) {
  if (b->from == b->to) b->from = b->to = 0;
  if (b->to + bytes <= b->capacity) return;
  if (b->from > 0) {
    memmove(b->data, b->data + b->from, b->to - b->from);
    b->to -= b->from;
    b->from = 0;
  }
  if (b->to + bytes > b->capacity) {
    b->capacity = (b->to + bytes) * 2;
    b->data = realloc(b->data, b->capacity);
    if (b->data == NULL) die("realloc");
  }
}

static inline void buffer_add(struct buffer *b, const char *bytes, size_t length) {
  buffer_room(b, length);
  memcpy(b->data + b->to, bytes, length);
  b->to += length;
}

static inline void no_delay(int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static inline struct sockaddr_in loopback(int port) {
  struct sockaddr_in address = {0};
  address.sin_family = AF_INET;
  address.sin_port = htons((uint16_t)port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

/* The value of `name=` in a query string or argument, or `fallback`. */
static inline long number_of(const char *text, const char *name, long fallback) {
  const char *at = text;
  size_t length = strlen(name);
  while ((at = strstr(at, name)) != NULL) {
    if (at[length] == '=') return atol(at + length + 1);
    at += length;
  }
  return fallback;
}

#endif
