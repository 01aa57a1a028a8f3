#include "worker/backend/cuda/matrix.h"
