/* Holds the namespaces of a pod, does nothing else, and ends by SIGKILL. */
#include <unistd.h>

int main(void) {
  for (;;) pause();
}
