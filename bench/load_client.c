/* Streams that are opened and read to their end: one thread, epoll, and nothing is parsed.

       load_client NAME=NUMBER ... < REQUEST     the bytes of one HTTP request, see bench/load.py

       port        of 127.0.0.1
       streams     connections
       each        requests on each, one after the other
       pause_ms    between an answer and the next request, at least
       ramp_ms     during which the connections are opened
       warm_up_ms  before measuring begins, after the ramp
       measure_ms  how long it lasts; 0: from the first connection to the last answer
       timeout_ms  of everything, when measure_ms is 0

   A token is looked for as a quoted stamp of 19 digits; its age is how long ago that time was when it
   is read. Prints "begin" and "end" as measuring begins and ends, then the figures, as JSON. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DIGITS 19
#define TOKEN_SIZE (DIGITS + 3) /* a quote, the digits, a space, a quote */
#define READ_SIZE 262144
static const char END[] = "\r\n0\r\n\r\n"; /* of a chunked body */
#define END_SIZE (sizeof END - 1)

struct list {
    long *values;
    size_t size, room;
};

struct stream {
    int fd;
    long asked_ns;
    long asks_at_ns; /* the end of its pause; 0: it has none now */
    long requests_left;
    size_t sent; /* bytes of the request */
    int answered, got_token;
    char tail[TOKEN_SIZE]; /* what may be the beginning of a token */
    size_t tail_size;
    char end[END_SIZE]; /* the last bytes that were read */
};

static struct {
    const char *name;
    long value;
} options[] = {{"port", 0},       {"streams", 1},    {"each", 1},          {"ramp_ms", 0},
               {"warm_up_ms", 0}, {"measure_ms", 0}, {"timeout_ms", 120000}, {"pause_ms", 0}};
enum { PORT, STREAMS, EACH, RAMP_MS, WARM_UP_MS, MEASURE_MS, TIMEOUT_MS, PAUSE_MS, OPTIONS };

static char *request;
static size_t request_size;
static struct list ages_ns, firsts_ns;
static long tokens, answers, failures, over;
static int poller, measuring;
static struct stream *streams;

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static double own_cpu_s(void) {
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_utime.tv_sec + usage.ru_stime.tv_sec +
           (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static void add(struct list *list, long value) {
    if (list->size == list->room) {
        list->room = list->room ? list->room * 2 : 65536;
        list->values = realloc(list->values, list->room * sizeof(long));
        if (!list->values) abort();
    }
    list->values[list->size++] = value;
}

static int compare(const void *left, const void *right) {
    long a = *(const long *)left, b = *(const long *)right;
    return (a > b) - (a < b);
}

static double at_ms(const struct list *sorted, double share) {
    if (!sorted->size) return 0;
    size_t place = sorted->size * share;
    return sorted->values[place < sorted->size ? place : sorted->size - 1] / 1e6;
}

static void fail(struct stream *stream, const char *why, size_t size) {
    if (!failures++) fprintf(stderr, "%.*s\n", (int)(size > 400 ? 400 : size), why);
    close(stream->fd);
    stream->fd = -1;
    over++;
}

static void watch(struct stream *stream, int how) {
    struct epoll_event event = {.events = EPOLLIN | (stream->sent < request_size ? EPOLLOUT : 0),
                                .data.ptr = stream};
    epoll_ctl(poller, how, stream->fd, &event);
}

static void send_request(struct stream *stream) {
    ssize_t sent = send(stream->fd, request + stream->sent, request_size - stream->sent,
                        MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent > 0) stream->sent += sent;
}

static void ask(struct stream *stream) {
    stream->asked_ns = now_ns();
    stream->sent = stream->tail_size = 0;
    stream->answered = stream->got_token = 0;
    memset(stream->end, 0, END_SIZE);
    stream->requests_left--;
    send_request(stream);
    if (stream->sent < request_size) watch(stream, EPOLL_CTL_MOD);
}

static void start(struct stream *stream) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(options[PORT].value)};
    int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    stream->fd = socket(AF_INET, SOCK_STREAM, 0);
    stream->requests_left = options[EACH].value;
    setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(stream->fd, (struct sockaddr *)&address, sizeof address)) {
        fail(stream, strerror(errno), 400);
        return;
    }
    stream->sent = request_size;
    watch(stream, EPOLL_CTL_ADD);
    ask(stream);
}

/* Counts the tokens in what was read, and returns how much of its end may begin another. */
static size_t look(struct stream *stream, const char *data, size_t size, long now) {
    const char *place = data, *end = data + size;
    while ((place = memchr(place, '"', end - place))) {
        int digits = 1;
        while (digits <= DIGITS && place + digits < end && place[digits] >= '0' &&
               place[digits] <= '9')
            digits++;
        if (place + digits == end) return end - place;
        if (digits == DIGITS + 1 && place[digits] == ' ') {
            if (place + TOKEN_SIZE > end) return end - place;
            if (place[TOKEN_SIZE - 1] == '"') {
                if (!stream->got_token) add(&firsts_ns, now - stream->asked_ns);
                stream->got_token = 1;
                if (measuring) {
                    tokens++;
                    add(&ages_ns, now - strtol(place + 1, NULL, 10));
                }
            }
        }
        place += digits;
    }
    return 0;
}

static void received(struct stream *stream, const char *data, size_t size) {
    if (size >= END_SIZE) {
        memcpy(stream->end, data + size - END_SIZE, END_SIZE);
    } else {
        memmove(stream->end, stream->end + size, END_SIZE - size);
        memcpy(stream->end + END_SIZE - size, data, size);
    }
    if (memcmp(stream->end, END, END_SIZE)) return;
    answers++;
    if (stream->requests_left > 0 && options[PAUSE_MS].value) {
        stream->asks_at_ns = now_ns() + options[PAUSE_MS].value * 1000000L;
    } else if (stream->requests_left > 0) {
        ask(stream);
    } else {
        close(stream->fd);
        stream->fd = -1;
        over++;
    }
}

static void on_stream(struct stream *stream, unsigned events) {
    static char data[TOKEN_SIZE + READ_SIZE];
    if (stream->fd < 0) return;
    if (events & EPOLLOUT) {
        send_request(stream);
        if (stream->sent == request_size) watch(stream, EPOLL_CTL_MOD);
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    char *fresh = data + stream->tail_size;
    ssize_t size = recv(stream->fd, fresh, READ_SIZE, MSG_DONTWAIT);
    long now = now_ns();
    if (size < 0 && errno == EAGAIN) return;
    if (size <= 0) {
        fail(stream, "the connection was closed before the answer ended", 400);
    } else if (!stream->answered && strncmp(fresh, "HTTP/1.1 200", 12)) {
        fail(stream, fresh, size);
    } else {
        stream->answered = 1;
        memcpy(data, stream->tail, stream->tail_size);
        size_t left = look(stream, data, stream->tail_size + size, now);
        const char *rest = fresh + size - left;
        stream->tail_size = left;
        memcpy(stream->tail, rest, left);
        received(stream, fresh, size);
    }
}

/* Asks again where a pause is over, and returns when the next one will be, `end_ns` at most. */
static long end_pauses(long end_ns) {
    if (!options[PAUSE_MS].value) return end_ns;
    for (long n = 0; n < options[STREAMS].value; n++) {
        struct stream *stream = &streams[n];
        if (!stream->asks_at_ns) continue;
        if (stream->asks_at_ns <= now_ns()) {
            stream->asks_at_ns = 0;
            ask(stream);
        } else if (stream->asks_at_ns < end_ns) {
            end_ns = stream->asks_at_ns;
        }
    }
    return end_ns;
}

/* Handles what is ready until a moment, or until nothing is left to wait for. */
static void run_until(long end_ns) {
    struct epoll_event events[256];
    while (over < options[STREAMS].value && now_ns() < end_ns) {
        long left = end_pauses(end_ns) - now_ns();
        if (left < 0) left = 0;
        int ready = epoll_wait(poller, events, 256, left / 1000000L + 1);
        for (int n = 0; n < ready; n++) on_stream(events[n].data.ptr, events[n].events);
    }
}

static void say(const char *word) {
    puts(word);
    fflush(stdout);
}

static void read_request(void) {
    size_t room = 0;
    for (size_t got;; request_size += got) {
        if (room - request_size < 65536) request = realloc(request, room += 8 * 65536);
        if (!request) abort();
        got = fread(request + request_size, 1, room - request_size, stdin);
        if (!got) return;
    }
}

int main(int count, char **words) {
    for (int n = 1; n < count; n++) {
        int option = 0;
        for (; option < OPTIONS; option++) {
            size_t size = strlen(options[option].name);
            if (!strncmp(words[n], options[option].name, size) && words[n][size] == '=') {
                options[option].value = atol(words[n] + size + 1);
                break;
            }
        }
        if (option == OPTIONS) {
            fprintf(stderr, "load_client knows no %s\n", words[n]);
            return 2;
        }
    }
    read_request();
    poller = epoll_create1(0);
    long measure_ns = options[MEASURE_MS].value * 1000000L;
    long ramp_ns = options[RAMP_MS].value * 1000000L;
    streams = calloc(options[STREAMS].value, sizeof *streams);
    if (!streams) abort();

    measuring = !measure_ns;
    if (measuring) say("begin");
    double cpu_s = own_cpu_s();
    long began = now_ns();
    for (long n = 0; n < options[STREAMS].value; n++) {
        start(&streams[n]);
        run_until(began + ramp_ns * n / options[STREAMS].value);
    }
    if (measure_ns) {
        run_until(began + ramp_ns + options[WARM_UP_MS].value * 1000000L);
        say("begin");
        measuring = 1;
        cpu_s = own_cpu_s();
        began = now_ns();
        run_until(began + measure_ns);
    } else {
        run_until(began + options[TIMEOUT_MS].value * 1000000L);
        failures += options[STREAMS].value - over;
    }
    say("end");
    double elapsed_s = (now_ns() - began) / 1e9;
    cpu_s = own_cpu_s() - cpu_s;
    qsort(ages_ns.values, ages_ns.size, sizeof(long), compare);
    qsort(firsts_ns.values, firsts_ns.size, sizeof(long), compare);
    printf("{\"tokens\": %ld, \"answers\": %ld, \"failures\": %ld, \"elapsed_s\": %.6f, "
           "\"client_cpu_s\": %.6f, \"age_p50_ms\": %.4f, \"age_p99_ms\": %.4f, "
           "\"age_p999_ms\": %.4f, \"age_most_ms\": %.4f, \"first_p50_ms\": %.4f, "
           "\"first_p99_ms\": %.4f}\n",
           tokens, answers, failures, elapsed_s, cpu_s, at_ms(&ages_ns, 0.5), at_ms(&ages_ns, 0.99),
           at_ms(&ages_ns, 0.999), at_ms(&ages_ns, 1), at_ms(&firsts_ns, 0.5),
           at_ms(&firsts_ns, 0.99));
    return 0;
}
