/* A chat upstream that costs next to nothing: one thread, epoll, and frames made beforehand.

       mock_upstream PORT FIRST TOKEN LAST      frames of server-sent events, see bench/load.py

       PUT /plan?tokens=N&rate=R&hold_ms=H      sets the answer to later requests; returns counters
       PUT /plan?...&wait=1                     they send no token until PUT /go
       POST *                                   FIRST, then N times TOKEN, then LAST
       GET *                                    404

   A rate of R sends R tokens a second to each stream, all streams in turn; 0 sends as fast as the
   other side reads. `hold_ms` keeps a stream open after its tokens. The STAMP digits in TOKEN become
   the time in nanoseconds at which it is sent (CLOCK_MONOTONIC), so that a reader knows how
   old it is. The counters are since the last plan: the longest tick, how many there were, how many of
   them came late, and how many streams are open now. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define DIGITS 19
#define STAMP "0000000000000000000"
#define TICK_NS 1000000L
#define MAX_PERIOD 1000 /* ticks between two tokens of a stream, at most */
#define BLOCK 64        /* tokens of one write, when all are sent at once */
#define MAX_HEAD 16384
#define MAX_PENDING (256 * 1024) /* bytes; a paced stream that is further behind loses its turn */

struct plan {
    long tokens, rate, hold_ms, wait;
};

struct stream {
    int fd;
    struct plan plan;
    long left;       /* tokens that are still to be sent */
    long ends_at_ns; /* when a stream that is held open ends; 0: it is not held */
    int listed; /* it waits for its turn, or is held open */
    struct stream *next;
    char head[MAX_HEAD];
    size_t head_size;
    size_t body_left; /* bytes of a request's body that are still to come */
    int in_body;
    char *pending; /* bytes that the client has not read yet */
    size_t pending_size;
    int closed;
};

static struct plan plan = {10, 0, 0, 0};
static struct stream *turns[MAX_PERIOD], *held;
static long period = 20, phase, tick, listed_streams, busiest_ns, ticks, missed_ticks;
static int poller, timer, timer_runs, released;
static char *first, *token, *block, *last;
static size_t first_size, token_size, last_size, stamp_at;

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static void *grown(void *memory, size_t size) {
    void *got = realloc(memory, size);
    if (!got) abort();
    return got;
}

/* One chunk of a chunked body, `tail` behind it. */
static char *chunk(const char *data, const char *tail, size_t *size) {
    char *made = grown(NULL, strlen(data) + strlen(tail) + 32);
    *size = sprintf(made, "%zx\r\n%s\r\n%s", strlen(data), data, tail);
    return made;
}

static void stamp(char *at) {
    char digits[DIGITS + 1];
    snprintf(digits, sizeof digits, "%019ld", now_ns());
    memcpy(at, digits, DIGITS);
}

static void watch(struct stream *stream) {
    struct epoll_event event = {.events = EPOLLIN | (stream->pending_size ? EPOLLOUT : 0),
                                .data.ptr = stream};
    epoll_ctl(poller, EPOLL_CTL_MOD, stream->fd, &event);
}

static void run_timer(int runs) {
    if (runs == timer_runs) return;
    struct itimerspec every = {{0, runs ? TICK_NS : 0}, {0, runs ? TICK_NS : 0}};
    timerfd_settime(timer, 0, &every, NULL);
    timer_runs = runs;
}

static void close_stream(struct stream *stream) {
    if (!stream->closed) close(stream->fd);
    stream->closed = 1;
    stream->left = 0;
}

static void release_if_closed(struct stream *stream) {
    if (!stream->closed || stream->listed) return;
    free(stream->pending);
    free(stream);
}

static void enlist(struct stream **list, struct stream *stream) {
    stream->next = *list;
    *list = stream;
    stream->listed = 1;
    listed_streams++;
    run_timer(1);
}

/* Takes all streams out of a list; the caller walks them along `next`. */
static struct stream *delist_all(struct stream **list) {
    struct stream *all = *list;
    *list = NULL;
    for (struct stream *stream = all; stream; stream = stream->next) {
        stream->listed = 0;
        listed_streams--;
    }
    return all;
}

static void send_bytes(struct stream *stream, const char *data, size_t size) {
    if (stream->closed) return;
    if (!stream->pending_size) {
        ssize_t sent = send(stream->fd, data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && errno != EAGAIN) {
            close_stream(stream);
            return;
        }
        if (sent < 0) sent = 0;
        data += sent;
        size -= sent;
        if (!size) return;
    }
    stream->pending = grown(stream->pending, stream->pending_size + size);
    memcpy(stream->pending + stream->pending_size, data, size);
    stream->pending_size += size;
    watch(stream);
}

static void end(struct stream *stream) {
    if (stream->closed) return;
    if (stream->plan.hold_ms && !stream->ends_at_ns) {
        stream->ends_at_ns = now_ns() + stream->plan.hold_ms * 1000000L;
        enlist(&held, stream);
    } else {
        stream->ends_at_ns = 0;
        send_bytes(stream, last, last_size);
    }
}

static void send_token(struct stream *stream) {
    if (stream->pending_size > MAX_PENDING) return;
    stamp(token + stamp_at);
    send_bytes(stream, token, token_size);
    if (--stream->left <= 0) end(stream);
}

static void send_blocks(struct stream *stream) {
    while (stream->left > 0 && !stream->pending_size && !stream->closed) {
        long count = stream->left < BLOCK ? stream->left : BLOCK;
        for (long n = 0; n < count; n++) stamp(block + n * token_size + stamp_at);
        send_bytes(stream, block, count * token_size);
        stream->left -= count;
        if (stream->left <= 0) end(stream);
    }
}

static void answer_plan(struct stream *stream) {
    struct plan asked = {0, 0, 0, 0};
    char body[256], answer[512];
    int valid = sscanf(stream->head, "PUT /plan?tokens=%ld&rate=%ld&hold_ms=%ld&wait=%ld",
                       &asked.tokens, &asked.rate, &asked.hold_ms, &asked.wait) >= 3;
    if (valid && asked.tokens > 0 && asked.rate >= 0 && asked.rate <= 1000) plan = asked;
    if (asked.wait) released = 0;
    sprintf(body, "{\"busiest_ms\": %.3f, \"ticks\": %ld, \"missed_ticks\": %ld, \"open\": %ld}",
            busiest_ns / 1e6, ticks, missed_ticks, listed_streams);
    busiest_ns = ticks = missed_ticks = 0;
    int size = sprintf(answer, "HTTP/1.1 %s\r\ncontent-length: %zu\r\n\r\n%s",
                       valid ? "200 OK" : "400 Bad Request", strlen(body), body);
    send_bytes(stream, answer, size);
}

static void answer(struct stream *stream) {
    static const char *const not_found =
        "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";
    static const char *const gone = "HTTP/1.1 204 No Content\r\n\r\n";
    if (!strncmp(stream->head, "PUT /plan", 9)) {
        answer_plan(stream);
    } else if (!strncmp(stream->head, "PUT /go", 7)) {
        released = 1;
        send_bytes(stream, gone, strlen(gone));
    } else if (strncmp(stream->head, "POST ", 5)) {
        send_bytes(stream, not_found, strlen(not_found));
    } else {
        stream->plan = plan;
        stream->left = plan.tokens;
        send_bytes(stream, first, first_size);
        if (plan.rate) {
            period = 1000 / plan.rate;
            /* A step that shares no factor with usual periods spreads streams that begin together. */
            enlist(&turns[phase++ * 7 % period], stream);
        } else {
            send_blocks(stream);
        }
    }
}

/* Requests come one after the other; heads are kept and parsed, bodies are skipped. */
static void received(struct stream *stream, char *data, size_t size) {
    while (size && !stream->closed) {
        if (stream->in_body) {
            size_t taken = size < stream->body_left ? size : stream->body_left;
            data += taken;
            size -= taken;
            stream->body_left -= taken;
        } else {
            stream->head[stream->head_size++] = *data++;
            size--;
            if (stream->head_size == MAX_HEAD) {
                close_stream(stream);
                return;
            }
            if (stream->head_size < 4 ||
                memcmp(stream->head + stream->head_size - 4, "\r\n\r\n", 4))
                continue;
            stream->head[stream->head_size] = 0;
            const char *length = strcasestr(stream->head, "\r\ncontent-length:");
            stream->body_left = length ? strtoul(length + 17, NULL, 10) : 0;
            stream->in_body = 1;
        }
        if (stream->in_body && !stream->body_left) {
            stream->in_body = 0;
            answer(stream);
            stream->head_size = 0;
        }
    }
}

static void take_turn(struct stream **turn) {
    for (struct stream *stream = delist_all(turn), *next; stream; stream = next) {
        next = stream->next;
        if (!stream->closed && (released || !stream->plan.wait)) send_token(stream);
        if (stream->left > 0) enlist(turn, stream);
        release_if_closed(stream);
    }
}

static void end_held(void) {
    long now = now_ns();
    for (struct stream *stream = delist_all(&held), *next; stream; stream = next) {
        next = stream->next;
        if (!stream->closed && stream->ends_at_ns > now)
            enlist(&held, stream);
        else
            end(stream);
        release_if_closed(stream);
    }
}

static void on_timer(void) {
    unsigned long due = 0;
    if (read(timer, &due, sizeof due) != sizeof due) return;
    ticks += due;
    missed_ticks += due - 1;
    while (due--) {
        long began = now_ns();
        take_turn(&turns[tick++ % period]);
        if (tick % 10 == 0) end_held();
        long took = now_ns() - began;
        if (took > busiest_ns) busiest_ns = took;
    }
    if (!listed_streams) run_timer(0);
}

static void on_stream(struct stream *stream, unsigned events) {
    static char data[65536];
    if (events & EPOLLOUT && stream->pending_size) {
        char *pending = stream->pending;
        size_t size = stream->pending_size;
        stream->pending = NULL;
        stream->pending_size = 0;
        send_bytes(stream, pending, size);
        free(pending);
        if (!stream->pending_size && !stream->closed) {
            watch(stream);
            if (!stream->plan.rate) send_blocks(stream);
        }
    }
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !stream->closed) {
        ssize_t size = recv(stream->fd, data, sizeof data, MSG_DONTWAIT);
        if (size > 0)
            received(stream, data, size);
        else if (size == 0 || errno != EAGAIN)
            close_stream(stream);
    }
    release_if_closed(stream);
}

static void accept_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        struct stream *stream = calloc(1, sizeof *stream);
        if (!stream) abort();
        stream->fd = fd;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = stream};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

int main(int count, char **words) {
    if (count != 5 || !strstr(words[3], STAMP)) {
        fprintf(stderr, "mock_upstream PORT FIRST TOKEN LAST\n");
        return 2;
    }
    static const char *const head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
                                    "transfer-encoding: chunked\r\n\r\n";
    char *chunked = chunk(words[2], "", &first_size);
    first = grown(NULL, strlen(head) + first_size + 1);
    first_size = sprintf(first, "%s%s", head, chunked);
    last = chunk(words[4], "0\r\n\r\n", &last_size);
    token = chunk(words[3], "", &token_size);
    stamp_at = strstr(token, STAMP) - token;
    block = grown(NULL, BLOCK * token_size);
    for (int n = 0; n < BLOCK; n++) memcpy(block + n * token_size, token, token_size);

    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[1]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("mock_upstream");
        return 1;
    }
    poller = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    struct epoll_event on_listener = {.events = EPOLLIN, .data.ptr = &listener};
    struct epoll_event of_timer = {.events = EPOLLIN, .data.ptr = &timer};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &on_listener);
    epoll_ctl(poller, EPOLL_CTL_ADD, timer, &of_timer);
    puts("ready");
    fflush(stdout);
    for (;;) {
        struct epoll_event events[256];
        int ready = epoll_wait(poller, events, 256, -1);
        for (int n = 0; n < ready; n++) {
            if (events[n].data.ptr == &listener)
                accept_all(listener);
            else if (events[n].data.ptr != &timer)
                on_stream(events[n].data.ptr, events[n].events);
        }
        /* Last, for it may release a stream that another event of this batch is about. */
        for (int n = 0; n < ready; n++)
            if (events[n].data.ptr == &timer) on_timer();
    }
}
