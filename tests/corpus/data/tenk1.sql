insert into tenk1
select
    n, m, n % 2, n % 4, n % 10, n % 20, n % 100, n % 1000, n % 2000, n % 5000, n % 10000,
    n % 100 * 2 + 1, n % 100 * 2,
    chr(65 + n % 26) || chr(65 + n / 26 % 26) || chr(65 + n / 676 % 26) || 'AAA',
    chr(65 + m % 26) || chr(65 + m / 26 % 26) || chr(65 + m / 676 % 26) || 'AAA',
    (array['AAAAxx', 'HHHHxx', 'OOOOxx', 'VVVVxx'])[m % 4 + 1]
from (select (m * 7919 + 8800) % 10000 as n, m from generate_series(0, 9999) as m) as _;
create index tenk1_unique1 on tenk1 (unique1);
create index tenk1_unique2 on tenk1 (unique2);
create index tenk1_hundred on tenk1 (hundred);
create index tenk1_thous_tenthous on tenk1 (thousand, tenthous);
