#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define RING_SIZE 16

struct ring {
    int items[RING_SIZE];
    size_t head, tail;
};

static int ring_push(struct ring *r, int item)
{
    size_t next = (r->tail + 1) % RING_SIZE;
    if (next == r->head)
        return -1;
    r->items[r->tail] = item;
    r->tail = next;
    return 0;
}

int main(void)
{
    struct ring r = {0};
    for (int i = 0; ring_push(&r, i) == 0; i++)
        printf("%d\n", i);
    return EXIT_SUCCESS;
}
