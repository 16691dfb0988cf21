insert into onek
select
    n, m, n % 2, n % 4, n % 10, n % 20, n % 100, n % 1000, n % 2000, n % 5000, n % 10000,
    n % 100 * 2 + 1, n % 100 * 2,
    chr(65 + n % 26) || chr(65 + n / 26 % 26) || chr(65 + n / 676 % 26) || 'AAA',
    chr(65 + m % 26) || chr(65 + m / 26 % 26) || chr(65 + m / 676 % 26) || 'AAA',
    (array['AAAAxx', 'HHHHxx', 'OOOOxx', 'VVVVxx'])[m % 4 + 1]
from (select (m * 147 + 47) % 1000 as n, m from generate_series(0, 999) as m) as _;
