// The simulated card as a process: the netlist of ring_top.v behind levels L1 and L2 of the offload ABI.
//
//   rtl-card                               L1, started by the host: the socket's number is in IRONLANE_OFFLOAD_FD
//   rtl-card --listen PATH                 L1, waiting for one host after the other on a Unix socket
//   rtl-card --device PATH [--entries N]   L2: makes the file PATH and serves the region in it, rings of up to N entries
//
// A card that has nothing to do sleeps; time in the netlist stands still meanwhile. It leaves when the host says STOP or hangs
// up (with --listen it then waits for the next host). On leaving it says on standard error how many clocks it simulated and how
// many completions it wrote.
#include "card.hpp"
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <string>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

// Clocks between two looks at everything that is not a ring: about 10 ms of simulation.
static const int CLOCKS_PER_LOOK = 4096;
// Sleep with nothing to do, milliseconds; the heart must beat every 100.
static const int SLEEP_MS = 20;
// Sleep where nobody rings, microseconds.
static const int POLL_US = 200;
// What a host that said STOP waits at most for work under way, milliseconds; after 500 it may kill.
static const int STOP_MS = 200;

struct Link {
    unsigned char *region = nullptr;
    uint64_t bytes = 0;
    int socket = -1, bell_card = -1, bell_host = -1;  // -1: there is none
    ~Link() {
        if (region) munmap(region, bytes);
        for (int fd : {socket, bell_card, bell_host})
            if (fd >= 0) close(fd);
    }
};

static bool complain(const std::string &text) {
    fprintf(stderr, "rtl-card: %s\n", text.c_str());
    return false;
}

static bool map(Link &link, int fd, uint64_t bytes) {
    void *at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) return false;
    link.region = (unsigned char *)at;
    link.bytes = bytes;
    return true;
}

// The driver's half of the greeting. Takes the socket over.
static bool greet(Link &link, int socket) {
    link.socket = socket;
    ironlane_hello hello = {};
    char control[CMSG_SPACE(3 * sizeof(int))] = {};
    iovec part = {&hello, sizeof hello};
    msghdr message = {};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    pollfd ready = {socket, POLLIN, 0};
    if (poll(&ready, 1, 10000) != 1) return complain("no greeting came within 10 s");
    if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC | MSG_WAITALL) != sizeof hello) return complain("the greeting is not whole");
    int fds[3] = {-1, -1, -1};
    cmsghdr *rights = CMSG_FIRSTHDR(&message);
    bool three = rights && rights->cmsg_level == SOL_SOCKET && rights->cmsg_type == SCM_RIGHTS
        && rights->cmsg_len == CMSG_LEN(sizeof fds);
    if (three) memcpy(fds, CMSG_DATA(rights), sizeof fds);
    link.bell_card = fds[1];
    link.bell_host = fds[2];
    // Memory that the host could cut short would end this process; a sealed one cannot be.
    int seals = three ? fcntl(fds[0], F_GET_SEALS) : -1;
    bool sealed = seals >= 0 && (seals & F_SEAL_SHRINK);
    bool good = three && sealed && hello.magic == IRONLANE_OFFLOAD_MAGIC && hello.version >> 16 == IRONLANE_OFFLOAD_VERSION >> 16
        && hello.region_bytes >= IRONLANE_REGION_BYTES(IRONLANE_ENTRIES_MIN)
        && hello.region_bytes <= IRONLANE_REGION_BYTES(IRONLANE_ENTRIES_MAX) && map(link, fds[0], hello.region_bytes);
    if (fds[0] >= 0) close(fds[0]);
    ironlane_welcome welcome = {IRONLANE_OFFLOAD_MAGIC, IRONLANE_OFFLOAD_VERSION, good ? 0u : 1u};
    if (write(socket, &welcome, sizeof welcome) != sizeof welcome) return complain("the host left during the greeting");
    return good || complain("the host greets in another language, or without a sealed region and two eventfds");
}

static void serve(Link &link) {
    Card card(link.region, link.bytes);
    card.introduce("simulation");
    uint64_t heartbeat = 0, completed = 0;
    auto beat = [&] { __atomic_store_n((uint64_t *)(link.region + IRONLANE_CARD_HEARTBEAT), ++heartbeat, __ATOMIC_RELAXED); };
    auto now = [] { return std::chrono::steady_clock::now(); };
    auto stop_at = now();
    bool stopping = false;
    for (;;) {
        beat();
        bool wrote = false;
        for (int i = 0; i < CLOCKS_PER_LOOK && (stopping ? !card.finished() : !card.idle()); i++) {
            if (!card.step()) continue;
            completed++;
            wrote = true;
            if (link.bell_host >= 0) {
                // The completion is written; if the host sleeps it must hear of it, and if it is about to sleep it will look.
                __atomic_thread_fence(__ATOMIC_SEQ_CST);
                uint64_t one = 1;
                if (card.word(IRONLANE_HOST_PAGE + IRONLANE_HOST_WAITS) && write(link.bell_host, &one, sizeof one) < 0
                    && errno != EAGAIN)
                    complain("the host's eventfd cannot be rung");
            }
        }
        if (link.socket >= 0) {
            pollfd hung = {link.socket, POLLIN, 0};
            if (poll(&hung, 1, 0) > 0) break;  // the host says nothing after the greeting: this is its end
        }
        if (card.command() == IRONLANE_COMMAND_STOP && !stopping) {
            stopping = true;
            stop_at = now() + std::chrono::milliseconds(STOP_MS);
            card.step();
        }
        if (stopping && (card.finished() || now() > stop_at)) break;
        if (wrote || stopping || !card.idle()) continue;
        if (link.bell_card < 0) {
            usleep(POLL_US);
            continue;
        }
        card.set(IRONLANE_CARD_WAITS, 1);
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        if (card.idle() && card.command() != IRONLANE_COMMAND_STOP) {
            pollfd wake[2] = {{link.bell_card, POLLIN, 0}, {link.socket, POLLIN, 0}};
            poll(wake, 2, SLEEP_MS);
        }
        card.set(IRONLANE_CARD_WAITS, 0);
        uint64_t rung;
        pollfd bell = {link.bell_card, POLLIN, 0};
        if (poll(&bell, 1, 0) > 0 && read(link.bell_card, &rung, sizeof rung) < 0) complain("the card's eventfd cannot be read");
    }
    fprintf(stderr, "rtl-card: %llu clocks, %llu completions\n", (unsigned long long)card.clocks, (unsigned long long)completed);
}

static bool listen_at(const char *path) {
    sockaddr_un address = {};
    address.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof address.sun_path) return complain(std::string(path) + " is too long for a socket's name");
    strcpy(address.sun_path, path);
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (sockaddr *)&address, sizeof address) || listen(listener, 1))
        return complain(std::string("cannot listen at ") + path + ": " + strerror(errno));
    for (;;) {
        int socket = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
        if (socket < 0) continue;
        Link link;
        if (greet(link, socket)) serve(link);
    }
}

static bool device(const char *path, uint32_t entries) {
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    Link link;
    uint64_t bytes = IRONLANE_REGION_BYTES(entries);
    bool good = fd >= 0 && ftruncate(fd, bytes) == 0 && map(link, fd, bytes);
    int error = errno;
    if (fd >= 0) close(fd);
    if (!good) return complain(std::string(path) + " cannot be made and mapped: " + strerror(error));
    // What an earlier card left must not be taken for ours.
    memset(link.region, 0, IRONLANE_RINGS);
    serve(link);
    return true;
}

int main(int count, char **arguments) {
    const char *socket_path = nullptr, *device_path = nullptr;
    uint32_t entries = 4096;
    for (int i = 1; i < count; i += 2) {
        std::string name = arguments[i];
        const char *value = i + 1 < count ? arguments[i + 1] : nullptr;
        if (value && name == "--listen") socket_path = value;
        else if (value && name == "--device") device_path = value;
        else if (value && name == "--entries") entries = strtoul(value, nullptr, 10);
        else return complain("usage: rtl-card [--listen PATH | --device PATH [--entries N]]"), 2;
    }
    if (entries < IRONLANE_ENTRIES_MIN || entries > IRONLANE_ENTRIES_MAX || entries & (entries - 1))
        return complain("--entries needs a power of two from 2 to 65536"), 2;
    if (socket_path) return !listen_at(socket_path);
    if (device_path) return !device(device_path, entries);
    const char *number = getenv(IRONLANE_OFFLOAD_FD);
    if (!number) return complain(IRONLANE_OFFLOAD_FD " names no descriptor: no host started this card; use --listen or --device"), 2;
    Link link;
    if (!greet(link, atoi(number))) return 1;
    serve(link);
}
